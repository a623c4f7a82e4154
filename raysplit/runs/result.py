"""What a run ends with, and who is told how it goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor

from raysplit.cluster.contract import LinkTraffic, PartyLoad, PartySpec
from raysplit.config.build import Prepared
from raysplit.config.run import RunConfig
from raysplit.prediction.timeline import Comparison
from raysplit.runs.folder import CUT_SHORT as CUT_SHORT
from raysplit.runs.folder import Row


class Observer(Protocol):
    """Is told how a run goes; the command line's progress is one."""

    def started(self, config: RunConfig, prepared: Prepared) -> None: ...

    def round_done(self, row: Row) -> None: ...

    def finished(self, result: RunResult) -> None: ...


class Meter(Protocol):
    """Is told who was made, and of every round what has crossed the links and how hard the parties were pressed."""

    def deployed(self, parties: Sequence[PartySpec]) -> None: ...

    def round_measured(self, moved: Sequence[LinkTraffic], loads: Sequence[PartyLoad]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run ends with: its metrics by round, the trained weights by label, traffic by link and why it stopped.

    ``comparison`` is there where the run had a topology: its rounds as predicted and as measured.
    """

    rows: tuple[Row, ...]
    states: Mapping[str, Mapping[str, Tensor]] = field(repr=False)  # asyncio prints what its main task returns
    traffic: tuple[LinkTraffic, ...]
    stopped: str
    folder: Path | None = None
    comparison: Comparison | None = None

    @property
    def accuracy(self) -> float:
        """Test accuracy after the last round."""
        return float(self.rows[-1]["test_accuracy"])
