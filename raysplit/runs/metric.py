"""The primary metric of a run, with its direction, and the cost of reaching a value of it.

A run with a task says in its rows which one it is. Elsewhere it is the test accuracy where tasks have class labels, of
which more is better, and the test loss where they have none, of which less is better. Speed is measured in steps and
bytes to a target, because a "round" of one algorithm may be many steps of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["higher", "lower"]
RATES = frozenset(
    {"accuracy", "token_accuracy", "pixel_accuracy", "miou", "macro_f1", "micro_f1", "exact_match", "auroc"}
)
"""Metrics from 0 to 1, which tables show as percentages."""
TASK_METRIC = "task_metric_"
"""Beginning of the columns that name the primary metric of each of several tasks."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of the models on test samples.

    Attributes:
        name: the name, such as ``accuracy``, ``loss`` or ``rmse``.
        better: whether a higher or a lower value is better.
    """

    name: str
    better: Better

    @property
    def is_rate(self) -> bool:
        """Whether values are shares from 0 to 1."""
        return self.name in RATES

    @property
    def worst_column(self) -> str:
        """The column of the value of the worst owner."""
        return f"{'min' if self.better == 'higher' else 'max'}_{self.name}"

    @property
    def owner_columns(self) -> tuple[str, ...]:
        """The columns over the owners, each on its own samples: mean, worst and spread."""
        return f"owner_{self.name}", self.worst_column, f"owner_{self.name}_sd"

    @property
    def column(self) -> str:
        """The column of a run's metrics."""
        return f"test_{self.name}"

    def of(self, row: Mapping[str, Any]) -> float | None:
        """Return the value in a row; None without an evaluation."""
        return float(row[self.column]) if self.column in row else None

    def merit(self, row: Mapping[str, Any]) -> tuple[float, ...] | None:
        """Return what to maximize: at an equal value, the lower loss is better. None without an evaluation."""
        value = self.of(row)
        if value is None or value != value:
            return None
        signed = value if self.better == "higher" else -value
        return (signed,) if self.name == "loss" else (signed, -float(row.get("test_loss", 0.0)))

    def is_reached(self, row: Mapping[str, Any], target: float) -> bool:
        """Return whether a row has a value that is at least as good as the target."""
        value = self.of(row)
        return value is not None and (value >= target if self.better == "higher" else value <= target)


ACCURACY = Metric(name="accuracy", better="higher")
LOSS = Metric(name="loss", better="lower")


def primary(rows: Sequence[Mapping[str, Any]], wanted: Literal["accuracy", "loss"] | None = None) -> Metric:
    """Return the metric ``wanted``, or else that of the run's task, the accuracy where a row has one, or the loss."""
    if wanted is not None:
        return ACCURACY if wanted == "accuracy" else LOSS
    for row in rows:
        if "primary_metric" in row:
            return Metric(name=row["primary_metric"], better=row["primary_better"])
    return ACCURACY if any("test_accuracy" in row for row in rows) else LOSS


@dataclass(frozen=True, kw_only=True)
class TaskFigure:
    """The primary metric of one of several tasks.

    Attributes:
        task: name of the task.
        metric: name of the metric.
        value: its value on test samples.
        naive: its value for a model that ignores its inputs; None where the run does not have it.
    """

    task: str
    metric: str
    value: float
    naive: float | None = None


def task_figures(row: Mapping[str, Any]) -> tuple[TaskFigure, ...]:
    """Return the primary metric of each of several tasks at an evaluation; empty for a run of one task."""
    found = []
    for key, metric in row.items():
        name = key.removeprefix(TASK_METRIC)
        value = row.get(f"test_{metric}_{name}")
        if key != name and value is not None:
            naive = row.get(f"naive_{metric}_{name}")
            found.append(TaskFigure(task=name, metric=metric, value=float(value), naive=naive))
    return tuple(found)


def to_targets(
    rows: Sequence[Mapping[str, Any]], targets: Sequence[float], wanted: Literal["accuracy", "loss"] | None = None
) -> dict[str, dict[str, int | None]]:
    """Return ``steps_to_target`` and ``bytes_to_target`` by target, a value of the primary metric; None if not reached.

    ``wanted`` is the metric of the run's rules.
    """
    found: dict[str, dict[str, int | None]] = {"steps_to_target": {}, "bytes_to_target": {}}
    metric = primary(rows, wanted)
    for target in targets:
        row = next((row for row in rows if metric.is_reached(row, target)), None)
        found["steps_to_target"][f"{target:g}"] = row["steps_total"] if row else None
        found["bytes_to_target"][f"{target:g}"] = row["bytes_total"] if row else None
    return found
