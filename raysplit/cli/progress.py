"""Progress of a run on a terminal, in a log, or as JSON lines."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from raysplit.runs.callback import Callback

if TYPE_CHECKING:  # help must not wait for torch
    from raysplit.experiment.experiment import Experiment
    from raysplit.runs.folder import Row
    from raysplit.runs.result import Result

_WIDE = 112  # columns from which there is room for a bar beside the metrics


def human_bytes(size: float) -> str:
    """Format a number of bytes in binary units, for example ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError


class LiveProgress(Callback):
    """Callback that draws a progress bar over rounds with loss, accuracy, speed and traffic."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            *([BarColumn(bar_width=24)] if console.width >= _WIDE else []),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[status]}"),
            console=console,
        )
        self._task: TaskID | None = None

    def run_started(self, experiment: Experiment) -> None:
        self._progress.start()
        self._task = self._progress.add_task(
            experiment.algorithm.title, total=_num_rounds(experiment), status="starting"
        )

    def round_ended(self, row: Row) -> None:
        if self._task is not None:
            self._progress.update(self._task, completed=row["round"], status=status_line(row))

    def run_ended(self, result: Result) -> None:
        self.close()

    def close(self) -> None:
        self._progress.stop()


class RoundLines(Callback):
    """Callback that prints a line per round, for output that is not a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._num_rounds = 0

    def run_started(self, experiment: Experiment) -> None:
        self._num_rounds = _num_rounds(experiment)

    def round_ended(self, row: Row) -> None:
        line = f"round {row['round']} of {self._num_rounds}: {status_line(row)}"
        self._console.print(line, highlight=False, soft_wrap=True)

    def close(self) -> None:
        pass


def _num_rounds(experiment: Experiment) -> int:
    return experiment.algorithm.trainings * experiment.setting.rounds


def progress_on(console: Console) -> LiveProgress | RoundLines:
    """Return a progress bar for a terminal and lines for any other console."""
    return LiveProgress(console) if console.is_terminal else RoundLines(console)


class JsonLines(Callback):
    """Callback that prints one JSON object per round, and a summary, to standard output."""

    def round_ended(self, row: Row) -> None:
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()

    def run_ended(self, result: Result) -> None:
        summary: dict[str, Any] = {"stopped": result.stopped, "folder": str(result.folder) if result.folder else None}
        sys.stdout.write(json.dumps({"summary": summary | {"last": result.rows[-1]}}) + "\n")


def status_line(row: Row) -> str:
    """Format the metrics of a round in one line."""
    tested = f"test loss {loss_text(row, 3)} " if "test_loss" in row else ""
    tested = f"accuracy {accuracy_text(row, 3)} " if "test_accuracy" in row else tested
    return (
        f"loss {row['train_loss']:.3f} {tested}{row['samples_per_s']:,.0f} samples/s {human_bytes(row['bytes_total'])}"
    )


def accuracy_text(row: Row, digits: int) -> str:
    """Format the test accuracy and, where owners have test samples of their own, what they say.

    ``by owner`` is the mean over the owners for a model that is tested on everybody's samples, and ``majority label``
    the accuracy of guessing an owner's most frequent label.
    """
    control = f" (majority label {row['majority_accuracy']:.{digits}f})" if "majority_accuracy" in row else ""
    return f"{row['test_accuracy']:.{digits}f}{_own_text(row, 'owner_accuracy', digits)}{control}"


def loss_text(row: Row, digits: int) -> str:
    """Format the test loss of tasks without labels as `accuracy_text` does."""
    return f"{row['test_loss']:.{digits}f}{_own_text(row, 'owner_loss', digits)}"


def _own_text(row: Row, column: str, digits: int) -> str:
    if row.get("tested_on") == "own":
        return " on own samples"
    return f", by owner {row[column]:.{digits}f}" if column in row else ""
