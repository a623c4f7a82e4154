"""A cluster in one process whose parties come and go by a script."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from raysplit.cluster.contract import Handle, Membership, PartySpec, Repaired
from raysplit.cluster.local.cluster import LocalCluster


class ComingAndGoing(LocalCluster):
    """Who is absent at each call of the roll: at the start of the run, then before every round; the last one stays."""

    def __init__(self, *absent: Collection[str]) -> None:
        super().__init__()
        self._absent = absent
        self._num_rolls = 0
        self._described: dict[str, PartySpec] = {}

    async def deploy(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        self._described = {party.name: party for party in parties}
        return {}

    async def members(self) -> Membership:
        absent = self._absent[min(self._num_rolls, len(self._absent) - 1)]
        self._num_rolls += 1
        came = [party for name, party in self._described.items() if name not in self._handles and name not in absent]
        for name in [name for name in self._handles if name in absent]:
            del self._handles[name]
        self._made(came)
        return Membership(handles=dict(self._handles), came=tuple(party.name for party in came), num_places=1)

    async def repair(self, parties: Sequence[PartySpec], lost: str, silence_s: float) -> Repaired:
        """The lost one leaves; the script says when it comes back."""
        self._described = {party.name: party for party in parties}
        self._handles.pop(lost, None)
        return Repaired(handles=dict(self._handles), remade=(lost,))


def replayed(rows: Sequence[Mapping[str, Any]], owners: Sequence[str]) -> ComingAndGoing:
    """A cluster whose owners come and go as these rows tell."""
    members: set[str] = set()
    absent = []
    for row in rows:
        members = (members | set(row["came"])) - set(row["left"])
        absent.append(set(owners) - members)
    return ComingAndGoing(absent[0], *absent)
