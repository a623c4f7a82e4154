"""A run as Ray's dashboard and Prometheus see it: what each round did, as metrics of the coordinator's process.

Ray exports them on the metrics port of the coordinator's machine as ``ray_raysplit_...``, with the run's name and
algorithm as labels. The rows of the run folder stay the source of truth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from raysplit.train.config import RunConfig
from raysplit.train.folder import Row
from raysplit.train.run import RunResult
from raysplit.train.setup import Prepared

Publish = Callable[[str, float], None]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric, and the column of a round's row that it tells; a counter adds up, a gauge is the latest value."""

    name: str
    kind: Literal["counter", "gauge"]
    column: str
    description: str


METRICS = (
    Metric(name="raysplit_round", kind="gauge", column="round", description="rounds that are done"),
    Metric(name="raysplit_owners", kind="gauge", column="num_owners", description="owners in the last round"),
    Metric(name="raysplit_samples", kind="counter", column="num_samples", description="samples trained on"),
    Metric(name="raysplit_bytes", kind="counter", column="bytes", description="tensor bytes over all links"),
    Metric(name="raysplit_train_seconds", kind="counter", column="seconds", description="seconds of training"),
    Metric(name="raysplit_samples_per_s", kind="gauge", column="samples_per_s", description="speed of the last round"),
    Metric(name="raysplit_train_loss", kind="gauge", column="train_loss", description="mean loss of the last round"),
    Metric(name="raysplit_test_accuracy", kind="gauge", column="test_accuracy", description="latest test accuracy"),
)


def measured(row: Row) -> Mapping[str, float]:
    """The metrics that a round's row tells, by name."""
    return {metric.name: float(row[metric.column]) for metric in METRICS if metric.column in row}


class Operations:
    """An observer that publishes every round."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish

    def started(self, config: RunConfig, prepared: Prepared) -> None:
        """Nothing has been measured yet."""

    def round_done(self, row: Row) -> None:
        for name, value in measured(row).items():
            self._publish(name, value)

    def finished(self, result: RunResult) -> None:
        """All rounds have been told."""
