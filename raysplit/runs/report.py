"""Reports of runs: accuracy and loss against rounds, bytes and seconds, read from run folders, finished or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from raysplit.experiment.titles import TRAININGS, title_of
from raysplit.plain_yaml import flat
from raysplit.registry import clipped, one_line
from raysplit.runs.metric import ACCURACY, LOSS, Metric
from raysplit.runs.records.read import read_metrics, read_settings, stop_of

Figure = Literal["accuracy", "loss"]
OWNER_COLUMNS = (
    *("owners_tested", "owner_accuracy", "min_accuracy", "owner_accuracy_sd"),
    *("owner_loss", "max_loss", "owner_loss_sd", "majority_accuracy"),
)
"""Columns of a run's metrics that are over the owners, each tested on its own samples."""

MOST_LABEL = 300
_NOT_COMPARED = ("algorithm.", "output.", "cluster.", "evaluation.")


@dataclass(frozen=True, kw_only=True)
class Point:
    """State of a run at an evaluation; bytes and seconds count the training since the start.

    ``accuracy`` is None for tasks without labels; ``loss`` is the test loss, summed over the tasks.
    """

    round: int
    num_bytes: int
    seconds: float
    accuracy: float | None = None
    loss: float | None = None


@dataclass(frozen=True, kw_only=True)
class RunReport:
    """Report of a run.

    Attributes:
        folder: the run folder.
        label: the title of the algorithm, with the name of the folder where several runs share the algorithm, in one
            line of at most `MOST_LABEL` characters that can be seen.
        algorithm: the name of the algorithm.
        partition: the partition and its options in words, in such a line.
        rounds: the number of finished rounds, of ``rounds_planned``.
        stopped: why the run ended.
        num_bytes, seconds: bytes sent and seconds of training.
        samples_per_s: training samples per second.
        curve: the evaluations in order.
        settings: the flattened configuration.
        tested_on: whose samples the last evaluation is of: of ``all``, or each owner's ``own``; None where the
            run does not say it.
        by_owner: those of `OWNER_COLUMNS` that the last evaluation has.
    """

    folder: Path
    label: str
    algorithm: str
    partition: str
    rounds: int
    rounds_planned: int
    stopped: str
    num_bytes: int
    seconds: float
    samples_per_s: float
    curve: tuple[Point, ...]
    settings: Mapping[str, Any]
    tested_on: str | None = None
    by_owner: Mapping[str, float] = field(default_factory=dict)

    @property
    def best_accuracy(self) -> float | None:
        return max(self.values("accuracy"), default=None)

    @property
    def last_accuracy(self) -> float | None:
        return self.curve[-1].accuracy if self.curve else None

    @property
    def best_loss(self) -> float | None:
        return min(self.values("loss"), default=None)

    @property
    def last_loss(self) -> float | None:
        return self.curve[-1].loss if self.curve else None

    def values(self, figure: Figure) -> list[float]:
        """Return the values of ``figure`` at the evaluations that have one."""
        found = [getattr(point, figure) for point in self.curve]
        return [value for value in found if value is not None]

    @property
    def metric(self) -> Metric:
        """The accuracy, or the loss for a run without one."""
        return ACCURACY if self.values("accuracy") or not self.values("loss") else LOSS

    def reached(self, target: float) -> Point | None:
        """Return the first evaluation with at least this accuracy, or at most this loss for a run without accuracy."""
        column, value = self.metric.column, self.metric.name
        at = ((point, getattr(point, value)) for point in self.curve)
        return next((p for p, v in at if v is not None and self.metric.is_reached({column: v}, target)), None)


def read_runs(folders: Sequence[Path]) -> list[RunReport]:
    """Read the runs in the folders, in order. Raises ``ValueError`` for a folder without a readable run."""
    found = [_read(folder) for folder in folders]
    times = Counter(title for title, _ in found)
    return [
        RunReport(**content, label=_label(title if times[title] == 1 else f"{title} ({content['folder'].name})"))
        for title, content in found
    ]


def _label(text: str) -> str:
    return clipped(one_line(text), MOST_LABEL)


def readable_runs(folders: Sequence[Path]) -> tuple[list[RunReport], dict[Path, str]]:
    """Read the runs in the folders that can be read; return them, and of the others the reason by folder.

    Raises ``ValueError`` where none can be read.
    """
    readable, left_out = [], {}
    for folder in folders:
        try:
            _read(folder)
        except ValueError as error:
            left_out[folder] = str(error)
        else:
            readable.append(folder)
    if not readable:
        raise ValueError("\n".join(left_out.values()))
    return read_runs(readable), left_out


def check_target(metrics: Collection[str], target: float | None) -> None:
    """Raise ``ValueError`` for a target above 1 where all of the metrics, one of each run, are accuracies."""
    if target is not None and target > 1 and set(metrics) == {"accuracy"}:
        raise ValueError(f"--target is {target:g} and these runs have accuracies; give one from 0 to 1, such as 0.9")


def common_figure(runs: Sequence[RunReport]) -> Figure:
    """Return the metric that all runs have: ``accuracy``, or ``loss`` where a run has only a test loss."""
    return "loss" if any(run.curve and not run.values("accuracy") for run in runs) else "accuracy"


def differing_settings(runs: Sequence[RunReport]) -> dict[str, list[Any]]:
    """Return the settings in which the runs differ, without algorithm, output, cluster and evaluation."""
    keys = dict.fromkeys(key for run in runs for key in run.settings if not key.startswith(_NOT_COMPARED))
    values = {key: [run.settings.get(key) for run in runs] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def as_json(run: RunReport, target: float | None = None) -> dict[str, Any]:
    """Return a report as plain data, for programs."""
    content: dict[str, Any] = {
        "folder": str(run.folder),
        "label": run.label,
        "algorithm": run.algorithm,
        "partition": run.partition,
        "rounds": run.rounds,
        "rounds_planned": run.rounds_planned,
        "stopped": run.stopped,
        "best_accuracy": run.best_accuracy,
        "last_accuracy": run.last_accuracy,
        "best_loss": run.best_loss,
        "last_loss": run.last_loss,
        "bytes": run.num_bytes,
        "seconds": run.seconds,
        "samples_per_s": run.samples_per_s,
        "tested_on": run.tested_on,
        **{key: run.by_owner.get(key) for key in OWNER_COLUMNS},
    }
    if target is not None:
        point = run.reached(target)
        at = {"rounds": point.round, "bytes": point.num_bytes, "seconds": point.seconds} if point else None
        content["to_target"] = {run.metric.name: target, "reached": at}
    return content


def _read(folder: Path) -> tuple[str, dict[str, Any]]:
    rows, config, stopped = read_metrics(folder), read_settings(folder), stop_of(folder)
    settings = dict(flat(config))
    algorithm = settings["algorithm.name"]
    trained = settings["training.rounds"] * TRAININGS.get(algorithm, 1)
    planned = len(rows) if stopped == "all rounds done" else trained
    content = {
        "folder": folder,
        "algorithm": algorithm,
        "partition": _label(_partition(config["partition"])),
        "rounds": len(rows),
        "rounds_planned": planned,
        "stopped": stopped,
        "num_bytes": sum(row["bytes"] for row in rows),
        "seconds": sum(row["seconds"] for row in rows),
        "samples_per_s": sum(row["num_samples"] for row in rows) / sum(row["seconds"] for row in rows),
        "curve": _curve(rows),
        "settings": settings,
        **_last_evaluation(rows),
    }
    return title_of(algorithm), content


def _curve(rows: Sequence[Mapping[str, Any]]) -> tuple[Point, ...]:
    points, num_bytes, seconds = [], 0, 0.0
    for row in rows:
        num_bytes += row["bytes"]
        seconds += row["seconds"]
        tested = {name: float(row[f"test_{name}"]) for name in get_args(Figure) if f"test_{name}" in row}
        if tested:
            points.append(Point(round=row["round"], num_bytes=num_bytes, seconds=seconds, **tested))
    return tuple(points)


def _last_evaluation(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    last: Mapping[str, Any] = next((row for row in reversed(rows) if "test_loss" in row), {})
    return {"tested_on": last.get("tested_on"), "by_owner": {key: last[key] for key in OWNER_COLUMNS if key in last}}


def percent(value: float | None) -> str:
    """Format an accuracy; empty where there is none."""
    return "" if value is None else f"{value:.1%}"


def number(value: float | None) -> str:
    """Format a loss; empty where there is none."""
    return "" if value is None else f"{value:.4g}"


def result_columns(runs: Sequence[RunReport]) -> dict[str, list[str]]:
    """Return the cells of the columns of best and last accuracies and losses, which depend on what the runs have."""
    by_loss = common_figure(runs) == "loss"
    columns = {}
    if not by_loss or any(run.last_accuracy is not None for run in runs):
        columns["best"] = [percent(run.best_accuracy) for run in runs]
        columns["last"] = [percent(run.last_accuracy) for run in runs]
    if by_loss:
        columns["best loss"] = [number(run.best_loss) for run in runs]
        columns["last loss"] = [number(run.last_loss) for run in runs]
    return columns


def owner_cells(run: RunReport) -> list[str] | None:
    """Return the cells of `OWNER_HEAD` about a run; None where it says nothing about single owners."""
    if run.tested_on is None and not run.by_owner:
        return None
    name = run.metric.name
    last = run.last_accuracy if name == "accuracy" else run.last_loss
    keys = (
        f"owner_{name}",
        "min_accuracy" if name == "accuracy" else "max_loss",
        f"owner_{name}_sd",
        "majority_accuracy",
    )
    values = [last, *(run.by_owner.get(key) for key in keys)]
    return [run.tested_on or "", *map(percent if name == "accuracy" else number, values)]


OWNER_HEAD = ("tested on", "last", "by owner", "worst owner", "spread", "majority label")
"""Columns about a run's last evaluation: whose samples it is of, its value, and that of the owners on their own."""


def _partition(section: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key} {value}" for key, value in section.items() if key not in ("name", "num_owners"))
    return f"{section['name']}{f' ({options})' if options else ''} over {section['num_owners']} owners"
