"""The seconds that each party has waited for the answers of others, and of whom, kept in the run folder at the end."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from raysplit.cluster.contract import LinkTraffic, PartyLoad, PartySpec
from raysplit.cluster.load import added
from raysplit.disk import written
from raysplit.runs.callback import Callback
from raysplit.runs.records.tables import WAITS
from raysplit.runs.result import Meter, Result

_WAITED_FOR = pa.list_(pa.struct([("party", pa.string()), ("wait_s", pa.float64())]))


class Waits(Callback):
    """Meter that adds up the waits of the rounds of this process, and writes them when the run ends or fails.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waited: defaultdict[str, float] = defaultdict(float)
        self._waited_for: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._rounds = 0

    def deployed(self, parties: Sequence[PartySpec]) -> None:
        """Do nothing; a party is known by its first wait."""

    def round_measured(self, moved: Sequence[LinkTraffic], loads: Sequence[PartyLoad]) -> None:
        """Add the waits of a round."""
        self._rounds += 1
        for load in loads:
            self._waited[load.party] += load.wait_s
            self._waited_for[load.party] = added(self._waited_for[load.party], load.wait_s_for)

    def run_ended(self, result: Result) -> None:
        self._write()

    def run_failed(self, error: BaseException) -> None:
        if (self._folder / "metrics.jsonl").exists():
            self._write()

    def _write(self) -> None:
        if not self._waited:  # parties of one process take turns, and none waits
            return
        parties = sorted(self._waited)
        table = pa.table(
            {
                "party": pa.array(parties, pa.string()),
                "wait_s": pa.array([self._waited[party] for party in parties], pa.float64()),
                "rounds": pa.array([self._rounds] * len(parties), pa.int64()),
                "waited_for": pa.array([self._longest_first(party) for party in parties], _WAITED_FOR),
            }
        )
        with written(self._folder / WAITS) as aside:
            pq.write_table(table, aside, write_page_checksum=True)

    def _longest_first(self, party: str) -> list[dict[str, str | float]]:
        ranked = sorted(self._waited_for[party].items(), key=lambda waited: (-waited[1], waited[0]))
        return [{"party": other, "wait_s": wait_s} for other, wait_s in ranked]


class Meters:
    """Meter that tells several ones."""

    def __init__(self, *meters: Meter) -> None:
        self._meters = meters

    def deployed(self, parties: Sequence[PartySpec]) -> None:
        """Tell the deployed parties."""
        for meter in self._meters:
            meter.deployed(parties)

    def round_measured(self, moved: Sequence[LinkTraffic], loads: Sequence[PartyLoad]) -> None:
        """Tell the traffic and the loads of a round."""
        for meter in self._meters:
            meter.round_measured(moved, loads)
