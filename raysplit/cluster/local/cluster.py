"""`LocalCluster`: every party in this process, on the running event loop.

The reference for bitwise equality, the debugger's friend and the stage of the simulator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from raysplit.cluster.contract import Handle, LinkTraffic, Membership, PartyLoad, PartySpec, Repaired
from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.emulation.machines import Emulate, Emulation
from raysplit.cluster.links.link import PLAIN, LinkRules, make_link, own_crossings
from raysplit.cluster.local.calls import LocalHandle
from raysplit.cluster.local.eager import EagerHandle, Turn


class LocalCluster:
    """All parties on one event loop, in one thread.

    Args:
        emulate: makes the machines and links that the parties are to be like; by default they run as they can.
        links: what works on the values that parties send one another; by default nothing.
    """

    def __init__(self, emulate: Emulate | None = None, *, links: LinkRules = PLAIN) -> None:
        self._rules = links
        self._link = make_link(links)
        self._turn = Turn()
        self._emulate = emulate
        self._handles: dict[str, Handle] = {}
        self._added: dict[str, PartySpec] = {}
        self._emulation: Emulation | None = None

    @property
    def log(self) -> EventLog:
        """What has happened in an emulated run."""
        return self._emulation.log if self._emulation is not None else EventLog()

    async def deploy(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        if self._emulate is not None:
            self._emulation = self._emulate(parties)
            self._link.network = self._emulation.network
        return self._made(parties)

    async def add(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        self._added |= {party.name: party for party in parties}
        return self._made(parties)

    async def add_apart(self, sets: Mapping[str, Sequence[PartySpec]]) -> dict[str, Handle]:
        """There is one place, and room in it."""
        return await self.add([party for parties in sets.values() for party in parties])

    async def remove(self, names: Sequence[str]) -> None:
        for name in names:
            self._handles.pop(name, None)
            self._added.pop(name, None)

    def _made(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        if self._emulation is not None:
            parties = self._emulation.equip(parties)
        made: dict[str, Handle] = {p.name: self._handle(p, p.build(name=p.name, **p.arguments)) for p in parties}
        self._handles |= made
        return made

    def _handle(self, spec: PartySpec, party: Any) -> Handle:
        own = own_crossings(self._rules, spec.build)
        if self._emulation is not None:
            return LocalHandle(spec.name, party, self._link, own)
        return EagerHandle(spec.name, party, self._link, own, self._turn)

    async def party_loads(self) -> list[PartyLoad]:
        return []

    async def watch(self, silence_s: float) -> None:
        """This process is there as long as anybody asks."""
        await asyncio.get_running_loop().create_future()

    async def repair(self, parties: Sequence[PartySpec], lost: str, silence_s: float) -> Repaired:
        """Here every party is a place of its own."""
        described = {**self._added, **{party.name: party for party in parties}}
        remade = [described[lost]] if lost in described else []
        self._made(remade)
        return Repaired(handles=dict(self._handles), remade=tuple(party.name for party in remade))

    async def members(self) -> Membership:
        return Membership(handles=dict(self._handles), came=(), num_places=1)

    async def traffic(self) -> list[LinkTraffic]:
        return self._link.traffic()

    async def close(self) -> None:
        """Nothing is held outside this process."""
