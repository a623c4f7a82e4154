"""Progress of a run on a terminal, in a log, or as JSON lines, and where its time went."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.progress import Progress, ProgressColumn, Task, TaskID
from rich.text import Text

from raysplit.cli.figures import tested_texts, trained_text
from raysplit.cli.streams import Console
from raysplit.runs.callback import Callback
from raysplit.runs.metric import TASK_METRIC

if TYPE_CHECKING:  # help must not wait for torch
    from raysplit.experiment.experiment import Experiment
    from raysplit.runs.callback import Stage
    from raysplit.runs.folder import Row
    from raysplit.runs.result import Result

IMPORTING = "reading the settings, loading torch"
_DOING = {
    "load": "loading the data",
    "check": "tracing and checking the model",
    "connect": "starting Ray",
    "deploy": "starting the parties",
}
_IN_ROUND = {"train": "training", "evaluate": "evaluating"}
_BAR = (6, 24)  # the narrowest and the widest bar, in columns
_ROOM = 3  # columns left free, for the ^C that a terminal prints into the line


def human_bytes(size: float) -> str:
    """Format a number of bytes in binary units, for example ``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError


def clock_text(seconds: float) -> str:
    """Format a time as ``0:07`` or ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Clock:
    """Times of a command: since its beginning, by what it was doing, and how long the rounds to come will take.

    Args:
        now: the time in seconds; by default the clock of the machine.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._began = self._since = now()
        self._doing = "start"
        self._spent = {"start": 0.0, "train": 0.0, "evaluate": 0.0, "write": 0.0}
        self._rounds_from: tuple[float, int] | None = None  # when the first round of this command began, and its number

    def stage(self, stage: str) -> None:
        """Count the time from now on as that of a stage; those before the first round are the start."""
        now = self._now()
        self._spent[self._doing] += now - self._since
        self._since, self._doing = now, stage if stage in self._spent else "start"
        if stage == "train" and self._rounds_from is None:
            self._rounds_from = (now, -1)

    @property
    def passed_s(self) -> float:
        return self._now() - self._began

    def left_s(self, done: int, total: int) -> float | None:
        """Return the seconds that the rounds to come will take at the pace so far; None before the first round."""
        if self._rounds_from is None:
            return None
        since, first = self._rounds_from
        if first < 0:  # a resumed run does not begin with the first round
            first = done - 1
            self._rounds_from = (since, first)
        return (self._now() - since) / max(1, done - first) * (total - done)

    def account(self) -> str:
        """Format where the time went: ``41.2 s: start 30.1, train 8.6, evaluate 2.0, write 0.5``."""
        self.stage("write")
        parts = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in self._spent.items())
        return f"{self.passed_s:.1f} s: {parts}"


class LiveProgress(Callback):
    """Callback that draws a line with a bar over rounds, the time passed and left, loss and accuracy."""

    def __init__(self, console: Console, doing: str = IMPORTING) -> None:
        self._clock = Clock()
        self._progress = Progress(_Line(self._clock, console), console=console)
        self._task: TaskID = self._progress.add_task("starting", total=None, doing=doing, row=None)
        self._progress.start()

    def stage_began(self, stage: Stage) -> None:
        self._clock.stage(stage)
        if doing := (_DOING | _IN_ROUND).get(stage):
            self._progress.update(self._task, doing=doing)

    def run_started(self, experiment: Experiment) -> None:
        title, total = experiment.algorithm.title, _num_rounds(experiment)
        self._progress.update(self._task, description=title, total=total, doing="round 1")

    def round_ended(self, row: Row) -> None:
        self._progress.update(self._task, completed=row["round"], row=row)

    def close(self) -> str:
        """Leave the last line as it is, and return where the time went."""
        if self._progress.tasks[0].fields["row"] is None:
            self._progress.update(self._task, visible=False)
        self._progress.stop()
        return self._clock.account()


class _Line(ProgressColumn):
    def __init__(self, clock: Clock, console: Console) -> None:
        super().__init__()
        self._clock, self._console = clock, console

    def render(self, task: Task) -> Text:
        row, done, total = task.fields["row"], int(task.completed), int(task.total or 0)
        passed = clock_text(self._clock.passed_s)
        if row is None:
            return Text(f"{task.description}: {task.fields['doing']} {passed}")
        times = times_text(self._clock, done, total)
        times += f", {task.fields['doing']}" * (task.fields["doing"] == "evaluating")
        return Text(progress_line(self._console.width - _ROOM, task.description, done, total, times, row))


def progress_line(width: int, title: str, done: int, total: int, times: str, row: Row) -> str:
    """Format a line of progress of at most ``width`` columns; what matters least is left out first."""
    count = f"{done}/{total}".rjust(2 * len(str(total)) + 1)
    loss = trained_text(row, 3)
    for shown in _thinner(row):
        metrics = [loss, *tested_texts(shown, 3)]
        if len(" ".join([title, count, times, *metrics])) <= width:
            break
    extras = [human_bytes(row["bytes_total"]), f"{row['samples_per_s']:,.0f} samples/s"]
    fixed = " ".join([title, count, times, *metrics])
    while extras and len(fixed) + 2 + _BAR[0] + len(" ".join(extras)) > width:
        extras.pop()
    rest = width - len(" ".join([fixed, *extras])) - 1
    bar = _bar(min(rest, _BAR[1]), done / max(1, total)) if rest >= _BAR[0] else ""
    line = " ".join(filter(None, [title, bar, count, times, *metrics, *extras]))
    if len(line) > width:  # without the title, then without the end
        line = " ".join([count, times, *metrics])[:width]
    return line


def _thinner(row: Row) -> Iterator[Row]:
    """Yield the row with less and less beside its result: all, without the tasks, the controls, the owners."""
    yield row
    row = {key: value for key, value in row.items() if not key.startswith(TASK_METRIC)}
    yield row
    for left_out in (
        "majority_accuracy",
        "primary_naive",
        f"owner_{row.get('primary_metric', 'accuracy')}",
        "owner_loss",
    ):
        row = {key: value for key, value in row.items() if key != left_out}
        yield row


def _bar(width: int, share: float) -> str:
    full = round(width * share)
    return "━" * full + "┈" * (width - full)


def times_text(clock: Clock, done: int, total: int) -> str:
    """Format the time passed and left: ``0:12 +0:30``, without the second part when nothing is left."""
    left_s = clock.left_s(done, total)
    left = f", {clock_text(left_s)} left" if left_s is not None and done < total else ""
    return f"{clock_text(clock.passed_s)}{left}"


class Silent(Callback):
    """Callback that prints nothing, and knows at the end where the time went."""

    def __init__(self) -> None:
        self._clock = Clock()

    def stage_began(self, stage: Stage) -> None:
        self._clock.stage(stage)

    def close(self) -> str:
        """Return where the time went."""
        return self._clock.account()


class RoundLines(Callback):
    """Callback that prints a line per stage and round, for output that is not a terminal."""

    def __init__(self, console: Console, doing: str = IMPORTING) -> None:
        self._console = console
        self._clock = Clock()
        self._num_rounds = 0
        self._say(f"start: {doing}")

    def stage_began(self, stage: Stage) -> None:
        self._clock.stage(stage)
        if stage in _DOING:
            self._say(f"start: {_DOING[stage]}")

    def run_started(self, experiment: Experiment) -> None:
        self._num_rounds = _num_rounds(experiment)

    def round_ended(self, row: Row) -> None:
        times = times_text(self._clock, row["round"], self._num_rounds)
        self._say(f"round {row['round']} of {self._num_rounds}: {status_line(row)}, {times}")

    def close(self) -> str:
        """Return where the time went."""
        return self._clock.account()

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def _num_rounds(experiment: Experiment) -> int:
    return experiment.algorithm.trainings * experiment.setting.rounds


def progress_on(console: Console) -> LiveProgress | RoundLines:
    """Return a progress bar for a terminal and lines for any other console; either says at once what is being done."""
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
    return " ".join([trained_text(row, 3), *tested_texts(row, 3), human_bytes(row["bytes_total"])])
