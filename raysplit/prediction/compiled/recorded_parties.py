"""Parties, devices and links whose work is recorded: what takes time or depends on others becomes an operation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from raysplit.actors.aggregator import Aggregator
from raysplit.actors.barrier import Barrier, Turns
from raysplit.actors.records import RoundContext
from raysplit.cluster.contract import Handle, PartySpec, original
from raysplit.cluster.device import Work
from raysplit.cluster.emulation.machines import Emulation, Machine
from raysplit.cluster.emulation.network import Network
from raysplit.cluster.links.rules import LinkRules
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.prediction.compiled.recording import Event, RecordedTask, Recording
from raysplit.prediction.compiled.unknown import CannotBeRecorded


def recording() -> Recording:
    """Return the running recording."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Recording)
    return loop


class NoClock:
    """The clock of a recording, which nobody may read."""

    def time_s(self) -> float:
        raise CannotBeRecorded("it reads the clock")

    now_s = time_s

    async def reach(self, when_s: float) -> None:
        raise CannotBeRecorded("it waits for a time")


class RecordedDevice:
    """A device whose work is noted and takes no time; the arguments are those of `PacedDevice`."""

    def __init__(self, *, party: str, machine: Machine, **_: Any) -> None:
        self._party = party
        self._machine = machine

    async def run(self, work: Work, compute: Callable[[], Any]) -> Any:
        recording().note("work", self._party, self._machine.device, work, self._machine.seconds(work))
        return compute()


class RecordedNetwork(Network):
    """A network whose transfers are noted."""

    @classmethod
    def of(cls, network: Network) -> RecordedNetwork:
        """Return a network with the links of another one."""
        recorded = cls.__new__(cls)
        vars(recorded).update(vars(network))
        return recorded

    def link(self, source: str, destination: str) -> tuple[float, float, bool, bool]:
        """Return the bandwidth and the latency of a link, and whether its two ends carry one transfer at a time."""
        sender, receiver = original(source), original(destination)
        up, down = self._interfaces[sender], self._interfaces[receiver]
        if up.trace is not None or down.trace is not None:
            raise CannotBeRecorded("links change over time (topology.devices.*.trace)")
        rate = min(up.up_bytes_per_s, down.down_bytes_per_s)
        return rate, up.latency_s + down.latency_s, up.serial, down.serial

    def now_s(self) -> Any:
        """Return the running task, at whose end a value is ready to send."""
        return recording().current

    async def carry(self, source: str, destination: str, num_bytes: int, made_s: Any) -> None:
        link = self._link(source, destination)
        if link is None:
            return
        loop, made = recording(), made_s
        assert isinstance(made, RecordedTask)
        loop.note("carry", source, destination, num_bytes, None if made is loop.current else made)


class RecordedBarrier(Barrier):
    """A barrier whose meetings are noted; the joint work is recorded once, and done by whoever comes last."""

    def __init__(self) -> None:
        super().__init__()
        self._met: dict[Hashable, list[Event]] = {}
        self._keys: dict[Hashable, Meeting] = {}

    async def meet(
        self,
        key: Hashable,
        name: str,
        value: Any,
        expected: Sequence[str],
        work: Callable[[list[Any]], Awaitable[Any]],
    ) -> Any:
        loop = recording()
        if loop.joint is not None:
            raise CannotBeRecorded("joint work meets others")
        meeting = self._keys.setdefault(key, Meeting())
        loop.note("meet", meeting)
        brought = self._brought.setdefault(key, {})
        brought[name] = value
        if len(brought) < len(expected):
            mine = Event(loop)
            self._met.setdefault(key, []).append(mine)
            return await mine
        del self._brought[key], self._keys[key]
        loop.joint = meeting.operations
        result = await work([brought[who] for who in expected])
        loop.joint = None
        for event in self._met.pop(key, []):
            event.set_result(result)
        return result


class Meeting:
    """A meeting at a barrier, with the operations of its joint work."""

    def __init__(self) -> None:
        self.operations: list[Any] = []


class Order:
    """The turns of one round at a party."""


class RecordedTurns(Turns):
    """Turns that are noted."""

    def __init__(self) -> None:
        super().__init__()
        self._order = Order()
        self._events: dict[int, Event] = {}

    async def comes(self, turn: int) -> None:
        loop = recording()
        loop.note("turn", self._order, turn)
        if turn != self._turn:
            await self._events.setdefault(turn, Event(loop))

    def passed(self) -> None:
        self._turn += 1
        recording().note("passed", self._order)
        event = self._events.pop(self._turn, None)
        if event is not None:
            event.set_result(None)

    def reset(self) -> None:
        self._turn, self._order = 0, Order()
        self._events.clear()


class Sum:
    """An average at an aggregator."""


class RecordedAggregator(Aggregator):
    """An aggregator whose submissions and averages are noted."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._sums: dict[Hashable, Sum] = {}

    async def submit(self, context: RoundContext, owner: str, *states: Mapping[str, Tensor], meeting: int = 0) -> None:
        recording().note("submit", self._sum(context, meeting))
        await super().submit(context, owner, *states, meeting=meeting)

    async def mean(self, context: RoundContext, *, meeting: int = 0) -> dict[str, Tensor]:
        self._check(context)
        recording().note("mean", self._sum(context, meeting))
        mean: Any = self._mean(meeting)
        return await mean  # type: ignore[no-any-return]

    def _sum(self, context: RoundContext, meeting: int) -> Sum:
        return self._sums.setdefault((context.round, meeting), Sum())

    def _mean(self, meeting: int) -> Any:
        means: dict[int, Any] = self._means
        return means.setdefault(meeting, Event(recording()))


class RecordingCluster(LocalCluster):
    """A cluster of parties whose work is recorded.

    Args:
        emulation: machines of the parties.
        links: codecs of the run.
        traffic: function that is told the ends, the kind and the bytes of every value that arrives.
    """

    def __init__(self, emulation: Emulation, links: LinkRules, traffic: Callable[[str, str, str, int, int], None]):
        emulation.unshared = RecordedDevice
        super().__init__(lambda _: emulation, links=links, checks=False)
        self._link._count = traffic  # type: ignore[assignment, method-assign]

    def _made(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        return super()._made([_recorded(party) for party in parties])


def _recorded(party: PartySpec) -> PartySpec:
    if party.role != "aggregator":
        return replace(party, build=_Building(party.build))
    rules = party.arguments.get("rules")
    if party.build is not Aggregator or (rules is not None and rules.aggregation != "mean"):
        raise CannotBeRecorded(f"{party.name} does more than to average what it is sent")
    return replace(party, build=RecordedAggregator)


class _Building:
    """The class of a party, whose barriers and turns are recorded."""

    def __init__(self, build: Callable[..., Any]) -> None:
        self._build = build

    def __getattr__(self, name: str) -> Any:
        return getattr(self._build, name)

    def __dir__(self) -> list[str]:
        return dir(self._build)

    def __call__(self, **arguments: Any) -> Any:
        party = self._build(**arguments)
        for name, value in vars(party).items():
            if type(value) is Barrier:
                setattr(party, name, RecordedBarrier())
            elif type(value) is Turns:
                setattr(party, name, RecordedTurns())
        return party
