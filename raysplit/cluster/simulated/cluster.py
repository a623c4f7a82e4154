"""`SimulatedCluster`: a `LocalCluster` for millions of calls in virtual time.

Parties, programs and calls behave as on a `LocalCluster`, and all events happen in the same order. There, calls,
transfers and work are coroutines that wait for a clock. Here they use the loop directly: a call is its own promise, and
a piece of work is an entry in the loop's list of timers, without a coroutine.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Generator, Mapping, Sequence
from contextvars import Context, copy_context
from functools import partial
from heapq import heappush
from types import CoroutineType, coroutine
from typing import Any

from raysplit.cluster.clock import Clock
from raysplit.cluster.contract import Handle, PartySpec, current_party
from raysplit.cluster.device import Work
from raysplit.cluster.device_queue import WorkQueue
from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.emulation.machines import Emulate, Emulation, Machine
from raysplit.cluster.emulation.network import Network
from raysplit.cluster.links.kinds import BEGINS, UNDECLARED, Crossing, Kind, declared
from raysplit.cluster.links.link import Link, arguments_leaving
from raysplit.cluster.links.rules import PLAIN, LinkRules
from raysplit.cluster.links.tensors import num_bytes
from raysplit.cluster.local.calls import kind_of
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.simulated.loop import VirtualLoop, virtual_loop
from raysplit.cluster.simulated.tasks import Steps, VirtualFuture, VirtualTask


class SimulatedDevice:
    """A device that takes as long for a piece of work as the described machine, like `PacedDevice`."""

    def __init__(self, *, party: str, machine: Machine, queue: WorkQueue, clock: Clock, log: EventLog) -> None:
        self.party = party
        self.machine = machine
        self.queue = queue
        self.log = log
        self.loop = virtual_loop()

    def run(self, work: Work, compute: Callable[[], Any]) -> SimulatedWork:
        done = SimulatedWork(self, work, compute)
        if self.queue.enter(work):
            done.set_result(None)
        else:
            self.queue.join(work, done, self.loop.now_s)
        return done


class SimulatedWork:
    """The future of a piece of work; to the queue of its device it is a `Turn`."""

    __slots__ = (
        "_began_s",
        "_compute",
        "_device",
        "_is_cancelled",
        "_is_done",
        "_result",
        "_timer",
        "_waiting",
        "_work",
    )
    _asyncio_future_blocking = False  # marks a future for asyncio

    def __init__(self, device: SimulatedDevice, work: Work, compute: Callable[[], Any]) -> None:
        self._device = device
        self._work = work
        self._compute = compute
        self._is_done = self._is_cancelled = False
        self._timer = -1
        self._waiting: VirtualTask | None = None

    def done(self) -> bool:
        return self._is_cancelled

    def set_result(self, _: None) -> None:
        """Begin the work: its turn has come."""
        device = self._device
        loop, queue = device.loop, device.queue
        self._began_s = began_s = loop.now_s
        self._result = self._compute()
        ends_s = (began_s if began_s > queue.free_s else queue.free_s) + device.machine.seconds(self._work)
        if ends_s > began_s:
            self._timer = number = next(loop.numbers)
            heappush(loop.timers, (ends_s, number, self))
        else:
            self._end()
            if self._waiting is not None:
                loop.due.append(self._waiting)

    def ring(self, number: int) -> None:
        """End the work at the time at which the described machine would."""
        if number == self._timer:
            self._end()
            if self._waiting is not None:
                self._waiting.step()

    def _end(self) -> None:
        device, work = self._device, self._work
        now_s = device.loop.now_s
        self._is_done = True
        device.queue.free_s = now_s
        kind, owner, _, round, step, _ = work
        device.log.add((device.party, device.machine.device, kind, owner, round, step, self._began_s, now_s, 0))
        device.loop.instant.append(device.queue.pass_on)

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._is_done:
            yield self
        if self._is_cancelled:
            raise CancelledError
        return self._result

    def wake_when_done(self, task: VirtualTask) -> None:
        self._waiting = task

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the work and free the machine if it had begun."""
        if self._is_done:
            return False
        self._is_done = self._is_cancelled = True
        if self._timer >= 0:
            self._timer = -1
            self._device.loop.instant.append(self._device.queue.pass_on)
        if self._waiting is not None:
            self._device.loop.due.append(self._waiting)
        return True


class SimulatedCall(VirtualTask):
    """A running call and its promise; its value arrives over the link when a party awaits it.

    The other tasks of the loop have this class too, with ``calls=None``: the interpreter is faster with one class.
    """

    __slots__ = ("_calls", "_kind", "_step")

    def __init__(
        self,
        coroutine: Steps,
        loop: VirtualLoop,
        context: Context,
        *,
        after: VirtualFuture | None = None,
        calls: _Calls | None = None,
        kind: Kind = "other",
        step: Any = None,
    ) -> None:
        self._calls = calls
        self._kind: Kind = kind
        self._step = step
        VirtualTask.__init__(self, coroutine, loop, context, after=after)

    def __await__(self) -> Generator[Any, None, Any]:
        return self.received(self._kind, self._step)

    def received(self, kind: Kind, step: Any) -> Generator[Any, None, Any]:
        """Wait for the value and take it as a value of this kind."""
        if not self._done:
            yield self
        value, calls = self.result(), self._calls
        if calls is not None and (size := num_bytes(value)):
            receiver = current_party.get()
            value = calls.link.arriving(calls.name, receiver, value, size, kind, step)
            transfer = calls.network.depart(calls.name, receiver, size, self._done_s)
            if transfer is not None:
                if transfer[0] > self._loop.now_s:
                    yield transfer[0]
                calls.network.arrived(transfer, self._loop.now_s)
            if calls.network.coder is not None:
                yield from calls.network.coder.decode(calls.name, receiver, kind, num_bytes(value), step).__await__()
        return value


class _Calls:
    """The calls of one party's verbs, which run in one context, with this party as `current_party`."""

    __slots__ = ("_context", "_crossings", "_loop", "_party", "link", "name", "network")

    def __init__(self, name: str, party: Any, link: Link, network: Network, own: Mapping[str, Crossing]) -> None:
        self.name = name
        self.link = link
        self._crossings = link.crossings(own)
        self.network = network
        self._party = party
        self._loop = virtual_loop()
        self._context = copy_context()
        self._context.run(current_party.set, name)

    def start(self, verb: str, *args: Any, **kwargs: Any) -> SimulatedCall:
        caller, sent_bytes = current_party.get(), 0
        crossing, step = self._crossings.get(verb, UNDECLARED), None
        if self.link.codes:
            step = crossing.step_of(args, kwargs)
            if verb in BEGINS:
                self.link.begin(self.name, step)
            args, kwargs = arguments_leaving(self.link, crossing, verb, (caller, self.name), args, kwargs)
        values = [*args, *kwargs.values()]
        promises, arrived = [], list[tuple[Kind, int, Any]]()
        for i, value in enumerate(values):
            if type(value) is SimulatedCall:
                promises.append(i)
            elif size := num_bytes(value):
                kind = kind_of(crossing, i, args, kwargs)
                values[i] = self.link.arriving(caller, self.name, value, size, kind, step)
                sent_bytes += size
                if self.network.coder is not None:
                    arrived.append((kind, num_bytes(values[i]), step))
        steps = self._run(caller, sent_bytes, arrived, promises, verb, values, tuple(kwargs), step)
        first = values[promises[0]] if promises and not sent_bytes else None  # all that it waits for
        answer = crossing.answer
        return SimulatedCall(steps, self._loop, self._context, after=first, calls=self, kind=answer, step=step)

    @coroutine
    def _run(
        self,
        caller: str,
        sent_bytes: int,
        arrived: list[tuple[Kind, int, Any]],
        promises: list[int],
        verb: str,
        values: list[Any],
        names: tuple[str, ...],
        step: Any,
    ) -> Generator[Any, None, Any]:
        """Transfer the arguments, then run the verb."""
        if sent_bytes:
            loop, network = self._loop, self.network
            for coded in arrived:
                yield from network.coder.encode(caller, self.name, *coded).__await__()  # type: ignore[union-attr]
            transfer = network.depart(caller, self.name, sent_bytes, loop.now_s)
            if transfer is not None:
                if transfer[0] > loop.now_s:
                    yield transfer[0]
                network.arrived(transfer, loop.now_s)
            for coded in arrived:
                yield from network.coder.decode(caller, self.name, *coded).__await__()  # type: ignore[union-attr]
        for i in promises:
            kind = kind_of(self._crossings.get(verb, UNDECLARED), i, values[: len(values) - len(names)], names)
            values[i] = yield from values[i].received(kind, step)
        named = {}
        if names:
            named = dict(zip(names, values[-len(names) :], strict=True))
            del values[-len(names) :]
        result = getattr(self._party, verb)(*values, **named)
        if type(result) is CoroutineType:
            result = yield from result  # type: ignore[misc]  # as `types.coroutine` allows
        elif hasattr(result, "__await__"):
            result = yield from result.__await__()
        if not self.link.codes:
            return result
        answer = self._crossings.get(verb, UNDECLARED).answer
        if self.network.coder is not None:
            yield from self.network.coder.encode(self.name, caller, answer, num_bytes(result), step).__await__()
        return self.link.leaving(self.name, "", result, answer, step)


class SimulatedHandle(Handle):
    """The handle of a party in a simulation."""

    def __init__(self, name: str, calls: _Calls) -> None:
        self.name = name
        self._calls = calls

    def __getattr__(self, verb: str) -> Callable[..., SimulatedCall]:
        if verb.startswith("_"):
            raise AttributeError(verb)
        call = self.__dict__[verb] = partial(self._calls.start, verb)  # later uses find it without __getattr__
        return call


class SimulatedCluster(LocalCluster):
    """A cluster that runs all parties on a `VirtualLoop`; see `LocalCluster`."""

    def __init__(self, emulate: Emulate, *, links: LinkRules = PLAIN) -> None:
        super().__init__(self._emulated, links=links)
        self._described = emulate

    def _emulated(self, parties: Sequence[PartySpec]) -> Emulation:
        emulation = self._described(parties)
        emulation.unshared = SimulatedDevice
        return emulation

    def _made(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        assert self._emulation is not None
        virtual_loop().task_type = SimulatedCall
        network = self._emulation.network
        made: dict[str, Handle] = {}
        for party in self._emulation.equip(parties):
            built = party.build(name=party.name, **party.arguments)
            own = declared(party.build)
            made[party.name] = SimulatedHandle(party.name, _Calls(party.name, built, self._link, network, own))
        self._handles |= made
        return made
