"""The primary metric of a run, with its direction, and the cost of reaching a value of it.

Where tasks have class labels it is the test accuracy, of which more is better, and elsewhere the test loss, of which
less is better. Speed is measured in steps and bytes to a target, because a "round" of one algorithm may be many steps
of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

MetricName = Literal["accuracy", "loss"]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric of the models on test samples."""

    name: MetricName

    @property
    def column(self) -> str:
        """The column of a run's metrics."""
        return f"test_{self.name}"

    def of(self, row: Mapping[str, Any]) -> float | None:
        """Return the value in a row; None without an evaluation."""
        return float(row[self.column]) if self.column in row else None

    def merit(self, row: Mapping[str, Any]) -> tuple[float, ...] | None:
        """Return what to maximize: at an equal accuracy, the lower loss is better. None without an evaluation."""
        value = self.of(row)
        if value is None:
            return None
        return (-value,) if self.name == "loss" else (value, -float(row.get("test_loss", 0.0)))

    def is_reached(self, row: Mapping[str, Any], target: float) -> bool:
        """Return whether a row has a value that is at least as good as the target."""
        value = self.of(row)
        return value is not None and (value <= target if self.name == "loss" else value >= target)


def primary(rows: Sequence[Mapping[str, Any]], wanted: MetricName | None = None) -> Metric:
    """Return the metric ``wanted``, or else the accuracy where a row has one, and the loss where none has."""
    return Metric(name=wanted or ("accuracy" if any("test_accuracy" in row for row in rows) else "loss"))


def to_targets(
    rows: Sequence[Mapping[str, Any]], targets: Sequence[float], wanted: MetricName | None = None
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
