"""`LocalCluster`: all parties in this process, on the running event loop.

It is the reference for bitwise equality, the cluster to debug on, and the base of the simulator's cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from raysplit.cluster.contract import Handle, LinkTraffic, Membership, PartyLoad, PartySpec, Repaired
from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.emulation.machines import Emulate, Emulation
from raysplit.cluster.guarded_link import make_link
from raysplit.cluster.links.kinds import declared
from raysplit.cluster.links.rules import PLAIN, LinkRules
from raysplit.cluster.load import with_coding
from raysplit.cluster.local.calls import LocalHandle
from raysplit.cluster.local.eager import EagerHandle, Turn


class LocalCluster:
    """A cluster that runs all parties on one event loop, in one thread.

    Args:
        emulate: function that describes the machines and links to emulate; without it nothing is paced.
        links: codecs and taps on the values that parties send; by default none.
        checks: whether values are checked when they arrive; not those of a simulation, which are only sizes.

    Example::

        cluster = LocalCluster()
        handles = await cluster.deploy([PartySpec(name="node-0", role="node", build=ComputeNode, arguments=arguments)])
        reply = await handles["node-0"].num_steps()
        await cluster.close()
    """

    def __init__(self, emulate: Emulate | None = None, *, links: LinkRules = PLAIN, checks: bool = True) -> None:
        self._rules = links
        self._link = make_link(links)
        self._link.checks = checks
        self._turn = Turn()
        self._emulate = emulate
        self._handles: dict[str, Handle] = {}
        self._added: dict[str, PartySpec] = {}
        self._emulation: Emulation | None = None

    @property
    def log(self) -> EventLog:
        """The events of an emulated run; empty if nothing is emulated."""
        return self._emulation.log if self._emulation is not None else EventLog()

    def party(self, name: str) -> Any:
        """Return a party itself, which lives in this process, to look at it."""
        return self._link.parties[name]

    async def deploy(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        if self._emulate is not None:
            self._emulation = self._emulate(parties)
            self._link.network = self._emulation.network
        return self._made(parties)

    async def add(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        self._added |= {party.name: party for party in parties}
        return self._made(parties)

    async def add_apart(self, sets: Mapping[str, Sequence[PartySpec]]) -> dict[str, Handle]:
        """Create the parties in this process, which is the only place and always has room."""
        return await self.add([party for parties in sets.values() for party in parties])

    async def remove(self, names: Sequence[str]) -> None:
        for name in names:
            self._handles.pop(name, None)
            self._link.parties.pop(name, None)
            self._added.pop(name, None)

    def _made(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        if self._emulation is not None:
            parties = self._emulation.equip(parties)
        made: dict[str, Handle] = {p.name: self._handle(p, p.build(name=p.name, **p.arguments)) for p in parties}
        self._handles |= made
        return made

    def _handle(self, spec: PartySpec, party: Any) -> Handle:
        own = declared(spec.build)
        self._link.parties[spec.name] = party
        if self._emulation is not None:
            return LocalHandle(spec.name, party, self._link, own)
        return EagerHandle(spec.name, party, self._link, own, self._turn)

    async def party_loads(self) -> list[PartyLoad]:
        return with_coding([], self._link.coding())

    async def watch(self, silence_s: float) -> None:
        """Wait until canceled: this process cannot be lost while it runs."""
        await asyncio.get_running_loop().create_future()

    async def repair(self, parties: Sequence[PartySpec], lost: str, silence_s: float) -> Repaired:
        """Create the lost party again; on this cluster every party is a place of its own."""
        described = {**self._added, **{party.name: party for party in parties}}
        remade = [described[lost]] if lost in described else []
        self._made(remade)
        return Repaired(handles=dict(self._handles), remade=tuple(party.name for party in remade))

    async def members(self) -> Membership:
        return Membership(handles=dict(self._handles), came=(), num_places=1)

    async def traffic(self) -> list[LinkTraffic]:
        return self._link.traffic()

    async def close(self) -> None:
        """Do nothing: the parties exist in this process only."""
