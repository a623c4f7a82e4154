"""What a run ends with: its metrics, traffic and trained weights."""

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
    """Is told who was made, and of every round what has crossed the links and how hard the parties were pressed."""

    def deployed(self, parties: Sequence[PartySpec]) -> None: ...

    def round_measured(self, moved: Sequence[LinkTraffic], loads: Sequence[PartyLoad]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run ends with; `raysplit.train` returns one, `raysplit.load` reads one from a run folder.

    Attributes:
        rows: the metrics, a mapping for each round; `metrics` has them as a table.
        states: the trained weights by label: ``"global"``, or one entry per owner for methods that train many models.
        links: what has crossed the links; `traffic` has it as a table.
        stopped: why the run ended, such as ``all rounds done``.
        folder: where everything is recorded, if it is.
        comparison: for a run with a topology, its rounds as predicted and as measured.
        specs: how the models are built, by label; a function that finds it out where that takes the data.
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
        """Test accuracy after the last evaluation, from 0 to 1. Raises ``ValueError`` for a run that has none."""
        for row in reversed(self.rows):
            if "test_accuracy" in row:
                return float(row["test_accuracy"])
        raise ValueError("this run has no test accuracy: its tasks have no labels; look at metrics['test_loss']")

    @property
    def metrics(self) -> pa.Table:
        """One row per round and one column per figure, as in ``metrics.parquet``; null where a round has none."""
        return table_of(self.rows)

    @property
    def traffic(self) -> pa.Table:
        """One row per link: ``source``, ``destination``, ``num_bytes``, ``num_messages``, as in ``traffic.parquet``."""
        return traffic_table(self.links)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the trained models: ``("global",)``, or the owners' names."""
        return tuple(self.states)

    def model(self, label: str | None = None) -> nn.Module:
        """A new module with the trained weights, in evaluation mode.

        Args:
            label: which model, where a method trains many; one of `labels`.

        Raises:
            ValueError: there is no such model, several and no label was given, or the model cannot be built here.

        Example:
            >>> model = result.model()
            >>> logits = model(x)  # [B, num_classes], for inputs after the evaluation transform
        """
        if label is None and len(self.states) == 1:
            (label,) = self.states
        if label is None or label not in self.states:
            given = "no label was given" if label is None else f"there is no model {label!r}"
            raise ValueError(f"{given}; this run has the models {', '.join(self.states) or 'none'}: give one of them")
        specs = self.specs() if callable(self.specs) else self.specs
        model = specs[label].build()
        model.load_state_dict(dict(self.states[label]))
        return model.eval()

    def __str__(self) -> str:
        tested = [row for row in self.rows if "test_loss" in row]
        figure = "not evaluated"
        if tested:
            figure = f"test loss {tested[-1]['test_loss']:.4g}"
            if "test_accuracy" in tested[-1]:
                figure = f"test accuracy {tested[-1]['test_accuracy']:.1%}, {figure}"
        where = f", in {self.folder}" if self.folder else ""
        return f"{figure} after {len(self.rows)} rounds ({self.stopped}){where}"

    def to_pandas(self) -> Any:
        """The metrics as a pandas ``DataFrame``; needs pandas, which raysplit does not bring."""
        return self.metrics.to_pandas()
