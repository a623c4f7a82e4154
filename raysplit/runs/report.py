"""Reports of runs: accuracy and loss against rounds, bytes and seconds, read from run folders, finished or not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysplit.experiment.titles import TRAININGS, title_of
from raysplit.plain_yaml import flat
from raysplit.registry import clipped, one_line
from raysplit.runs.metric import ACCURACY, LOSS, RATES, Metric, TaskFigure, primary, task_figures
from raysplit.runs.records.read import read_metrics, read_settings, stop_of

OWNER_COLUMNS = ("owners_tested", *ACCURACY.owner_columns, *LOSS.owner_columns, "majority_accuracy")
"""Columns of a run's metrics that are over the owners, each tested on its own samples."""

MOST_LABEL = 300
_NOT_COMPARED = ("algorithm.", "output.", "cluster.", "evaluation.")


@dataclass(frozen=True, kw_only=True)
class Point:
    """State of a run at an evaluation; bytes and seconds count the training since the start.

    ``accuracy`` is None for tasks without labels; ``loss`` is the test loss, summed over the tasks. ``primary`` is the
    primary metric of the run's task; None without one.
    """

    round: int
    num_bytes: int
    seconds: float
    accuracy: float | None = None
    loss: float | None = None
    primary: float | None = None


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
        by_owner: those of `OWNER_COLUMNS`, or of the task's own, that the last evaluation has.
        task_metric: the primary metric of the run's task; None without one.
        naive: its value for a model that ignores its inputs; None where the run does not have it.
        tasks: the primary metric of each of several tasks at the last evaluation.
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
    task_metric: Metric | None = None
    naive: float | None = None
    tasks: tuple[TaskFigure, ...] = ()

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

    def values(self, figure: str) -> list[float]:
        """Return the values of ``figure`` at the evaluations that have one."""
        return [value for point in self.curve if (value := self.at(point, figure)) is not None]

    def at(self, point: Point, figure: str) -> float | None:
        """Return the value of ``accuracy``, ``loss`` or the primary metric at an evaluation."""
        if figure in ("accuracy", "loss"):
            return point.accuracy if figure == "accuracy" else point.loss
        return point.primary if figure == self.metric.name else None

    @property
    def best(self) -> float | None:
        """The best value of the primary metric."""
        values = self.values(self.metric.name)
        return (max if self.metric.better == "higher" else min)(values, default=None)

    @property
    def last(self) -> float | None:
        """The value of the primary metric at the last evaluation."""
        return self.last_of(self.metric.name)

    def last_of(self, figure: str) -> float | None:
        """Return the value of a figure at the last evaluation."""
        return self.at(self.curve[-1], figure) if self.curve else None

    @property
    def metric(self) -> Metric:
        """The primary metric of the task, or else the accuracy, or the loss for a run without one."""
        if self.task_metric is not None:
            return self.task_metric
        return ACCURACY if self.values("accuracy") or not self.values("loss") else LOSS

    def reached(self, target: float) -> Point | None:
        """Return the first evaluation whose primary metric is at least as good as the target."""
        column = self.metric.column
        at = ((point, self.at(point, self.metric.name)) for point in self.curve)
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
    if target is not None and target > 1 and metrics and set(metrics) <= RATES:
        raise ValueError(f"--target is {target:g} and these runs have accuracies; give one from 0 to 1, such as 0.9")


def common_figure(runs: Sequence[RunReport]) -> str:
    """Return the name of the metric that all runs have: the primary one where it is the same, else ``loss``."""
    return common_metric(runs).name


def common_metric(runs: Sequence[RunReport]) -> Metric:
    """Return the metric that all runs have: the primary one where it is the same, else the loss."""
    metrics = {run.metric for run in runs if run.curve}
    if len(metrics) == 1:
        return metrics.pop()
    return LOSS if metrics else ACCURACY


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
        "metric": run.metric.name,
        "best": run.best,
        "last": run.last,
        "naive": run.naive,
        "tasks": {each.task: {"metric": each.metric, "last": each.value, "naive": each.naive} for each in run.tasks},
        "bytes": run.num_bytes,
        "seconds": run.seconds,
        "samples_per_s": run.samples_per_s,
        "tested_on": run.tested_on,
        **{key: run.by_owner.get(key) for key in (*OWNER_COLUMNS, *run.metric.owner_columns)},
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
        tested = {name: float(row[f"test_{name}"]) for name in ("accuracy", "loss") if f"test_{name}" in row}
        if "primary" in row:
            tested["primary"] = float(row["primary"])
        if tested:
            points.append(Point(round=row["round"], num_bytes=num_bytes, seconds=seconds, **tested))
    return tuple(points)


def _last_evaluation(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    last: Mapping[str, Any] = next((row for row in reversed(rows) if "test_loss" in row), {})
    metric = primary(rows) if "primary_metric" in last else None
    columns = (*OWNER_COLUMNS, *(metric.owner_columns if metric else ()))
    return {
        "tested_on": last.get("tested_on"),
        "by_owner": {key: last[key] for key in columns if key in last},
        "task_metric": metric,
        "naive": last.get("primary_naive"),
        "tasks": task_figures(last),
    }


def _partition(section: Mapping[str, Any]) -> str:
    options = ", ".join(f"{key} {value}" for key, value in section.items() if key not in ("name", "num_owners"))
    return f"{section['name']}{f' ({options})' if options else ''} over {section['num_owners']} owners"
