"""The result of a run: metrics, traffic and trained weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from torch import Tensor, nn

from raysplit.cluster.contract import LinkTraffic, PartyLoad, PartySpec
from raysplit.models.spec import ModelSpec
from raysplit.prediction.timeline import Comparison
from raysplit.runs.folder import CUT_SHORT as CUT_SHORT
from raysplit.runs.folder import Row, table_of, traffic_table


class Meter(Protocol):
    """Receiver of the deployed parties, and of the traffic and load of every round."""

    def deployed(self, parties: Sequence[PartySpec]) -> None: ...

    def round_measured(self, moved: Sequence[LinkTraffic], loads: Sequence[PartyLoad]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of a run, which `raysplit.train` returns and `raysplit.load` reads from a run folder.

    Attributes:
        rows: the metrics, with one mapping per round; `metrics` has them as a table.
        states: the trained weights by label: ``"global"``, or one label per owner or group where an algorithm trains
            several models.
        links: the bytes and messages on every link; `traffic` has them as a table.
        stopped: why the run ended, such as ``all rounds done``.
        folder: the run folder; None where nothing was recorded.
        comparison: predicted and measured times, for a run with a topology; else None.
        specs: the description of each model by label, or a function that returns these descriptions.

    Example:
        >>> result = raysplit.load("runs/mine")
        >>> result.labels, result.metrics.num_rows, type(result.model()).__name__
        (('global',), 1, 'Sequential')
    """

    rows: tuple[Row, ...] = field(repr=False)
    states: Mapping[str, Mapping[str, Tensor]] = field(repr=False)  # asyncio prints what its main task returns
    links: tuple[LinkTraffic, ...] = field(default=(), repr=False)
    stopped: str = CUT_SHORT
    folder: Path | None = None
    comparison: Comparison | None = None
    specs: Mapping[str, ModelSpec] | Callable[[], Mapping[str, ModelSpec]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def accuracy(self) -> float:
        """Test accuracy of the last evaluation, from 0 to 1. Raises ``ValueError`` for a run without one."""
        for row in reversed(self.rows):
            if "test_accuracy" in row:
                return float(row["test_accuracy"])
        raise ValueError(
            "this run has no test accuracy: it was not evaluated, or its tasks have no labels; see metrics"
        )

    @property
    def metrics(self) -> pa.Table:
        """Table with one row per round and a column per metric, as in ``metrics.parquet``; missing values are null."""
        return table_of(self.rows)

    @property
    def traffic(self) -> pa.Table:
        """Table with one row per link, as in ``traffic.parquet``: ``source``, ``destination``, ``num_bytes``,
        ``num_messages``."""
        return traffic_table(self.links)

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the trained models: ``("global",)``, or one per owner or group."""
        return tuple(self.states)

    def model(self, label: str | None = None) -> nn.Module:
        """Build a new module with the trained weights, in evaluation mode.

        Args:
            label: the label of the model, one of `labels`; None takes the only one.

        Returns:
            A module that takes inputs [B, ...] after the evaluation transform.

        Raises:
            ValueError: there is no model with this label, there are several and no label was given, or the model
                cannot be built in this process.

        Example:
            >>> model = raysplit.load("runs/mine").model()
            >>> model(torch.zeros(5, 1, 8, 8)).shape  # [B, num_classes], for inputs after the evaluation transform
            torch.Size([5, 10])
        """
        if label is None and len(self.states) == 1:
            (label,) = self.states
        if label is None or label not in self.states:
            given = "no label was given" if label is None else f"there is no model {label!r}"
            raise ValueError(f"{given}; this run has the models {', '.join(self.states) or 'none'}; give one of them")
        specs = self.specs() if callable(self.specs) else self.specs
        model = specs[label].build()
        model.load_state_dict(dict(self.states[label]))
        return model.eval()

    def __str__(self) -> str:
        tested = [row for row in self.rows if "test_loss" in row]
        figure = "not evaluated"
        if tested:
            figure = f"test loss {tested[-1]['test_loss']:.4g}"
            if "primary" in tested[-1] and "test_accuracy" not in tested[-1]:
                figure = f"test {tested[-1]['primary_metric']} {tested[-1]['primary']:.4g}, {figure}"
            if "test_accuracy" in tested[-1]:
                figure = f"test accuracy {tested[-1]['test_accuracy']:.1%}, {figure}"
        where = f", in {self.folder}" if self.folder else ""
        return f"{figure} after {len(self.rows)} rounds ({self.stopped}){where}"

    def to_pandas(self) -> Any:
        """Return the metrics as a pandas ``DataFrame``; pandas must be installed, and raysplit does not require it."""
        return self.metrics.to_pandas()
