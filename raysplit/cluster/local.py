"""`LocalCluster`: every party in this process, every call a task on the running event loop.

The reference for bitwise equality, the debugger's friend and the stage of the simulator.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from raysplit.cluster.contract import Handle, Healed, LinkTraffic, PartySpec, Roll, Strain, current_party
from raysplit.cluster.emulation import Emulate, Emulation, Network
from raysplit.cluster.events import EventLog
from raysplit.cluster.wire import Envelope, TrafficMeter, num_bytes


class LocalPromise:
    """A running call; the value is counted on the link from its maker to whoever awaits it."""

    def __init__(self, task: asyncio.Task[Envelope], meter: TrafficMeter, network: Network | None = None) -> None:
        self._task = task
        self._meter = meter
        self._network = network

    def __await__(self) -> Generator[Any, None, Any]:
        envelope = yield from self._task.__await__()
        if envelope.num_bytes:
            receiver = current_party.get()
            self._meter.add(envelope.source, receiver, envelope.num_bytes)
            if self._network is not None:
                carried = self._network.carry(envelope.source, receiver, envelope.num_bytes, envelope.made_s)
                yield from carried.__await__()
        return envelope.value

    async def envelope(self) -> Envelope:
        """The value under its maker's name, uncounted: for sending it on."""
        return await self._task


class LocalHandle:
    """The handle of a party that lives in this process."""

    promise: ClassVar[type[LocalPromise]] = LocalPromise

    def __init__(self, name: str, party: Any, meter: TrafficMeter, network: Network | None = None) -> None:
        self.name = name
        self._party = party
        self._meter = meter
        self._network = network

    def __getattr__(self, verb: str) -> Callable[..., LocalPromise]:
        if verb.startswith("_"):
            raise AttributeError(verb)
        call = self.__dict__[verb] = partial(self._call, verb)  # found without asking from now on
        return call

    def _call(self, verb: str, *args: Any, **kwargs: Any) -> LocalPromise:
        task = asyncio.get_running_loop().create_task(self._run(current_party.get(), verb, args, kwargs))
        return self.promise(task, self._meter, self._network)

    async def _run(self, caller: str, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Envelope:
        current_party.set(self.name)  # this task's own context
        network, sent_bytes = self._network, 0
        values = [*args, *kwargs.values()]
        promises = []
        for i, value in enumerate(values):
            if hasattr(value, "__await__"):
                promises.append(i)
            elif size := num_bytes(value):
                self._meter.add(caller, self.name, size)
                sent_bytes += size
        if network is not None and sent_bytes:
            await network.carry(caller, self.name, sent_bytes, network.now_s())
        for i in promises:
            values[i] = await values[i]
        named = dict(zip(kwargs, values[len(args) :], strict=True)) if kwargs else {}
        result = getattr(self._party, verb)(*values[: len(args)], **named)
        if hasattr(result, "__await__"):
            result = await result
        return Envelope(self.name, result, network.now_s() if network is not None else 0.0)


class LocalCluster:
    """All parties on one event loop, in one thread.

    Args:
        emulate: makes the machines and links that the parties are to be like; by default they run as they can.
    """

    def __init__(self, emulate: Emulate | None = None) -> None:
        self._meter = TrafficMeter()
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
        network = None
        if self._emulation is not None:
            network = self._emulation.network
            parties = self._emulation.equip(parties)
        made: dict[str, Handle] = {
            p.name: LocalHandle(p.name, p.build(name=p.name, **p.arguments), self._meter, network) for p in parties
        }
        self._handles |= made
        return made

    async def strain(self) -> list[Strain]:
        return []

    async def watch(self, silence_s: float) -> None:
        """This process is there as long as anybody asks."""
        await asyncio.get_running_loop().create_future()

    async def heal(self, parties: Sequence[PartySpec], lost: str, silence_s: float) -> Healed:
        """Here every party is a place of its own."""
        described = {**self._added, **{party.name: party for party in parties}}
        remade = [described[lost]] if lost in described else []
        self._made(remade)
        return Healed(handles=dict(self._handles), remade=tuple(party.name for party in remade))

    async def roll(self) -> Roll:
        return Roll(handles=dict(self._handles), came=(), num_places=1)

    async def traffic(self) -> list[LinkTraffic]:
        return self._meter.records()

    async def close(self) -> None:
        """Nothing is held outside this process."""
