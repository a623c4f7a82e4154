"""The state of a process beside its parties: its link, its load meter, the handles of its parties, allocator and log.

A call within a process is a plain call, whose waits are measured.

In the first thread of a process, glibc adapts and keeps the memory of freed tensors. A place works in another thread,
where larger tensors are unmapped at once, and each batch waits for the system to map and clear the same pages again
(eight to ten page faults per sample of a small CNN, a tenth of its processor time).

Ray stores the standard error of a place on the place's machine, in the logs of the session.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
from collections.abc import Generator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from raysplit.cluster.arriving.check import Due
from raysplit.cluster.contract import COORDINATOR, PartyLoad, PlaceLost, Promise, are_answered_together, current_party
from raysplit.cluster.emulation.network import Network
from raysplit.cluster.guarded_link import make_link
from raysplit.cluster.links.kinds import UNDECLARED, Crossing, Kind
from raysplit.cluster.links.link import Link
from raysplit.cluster.links.rules import LinkRules
from raysplit.cluster.links.tensors import Envelope, Sealed, sealed, unpack
from raysplit.cluster.load import LoadMeter, with_coding
from raysplit.cluster.local.calls import Answer, LocalHandle, LocalPromise, received
from raysplit.cluster.on_ray.answers import GONE, RayTaskError, cause_of, first_line
from raysplit.registry import printable

FORMAT = "%(asctime)s %(levelname)s [%(place)s %(party)s] %(name)s: %(message)s"

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # from malloc.h
_KEPT_BYTES = 256 * 2**20
_LARGEST_IN_HEAP_BYTES = 32 * 2**20  # the largest value that glibc accepts
_OWN_SETTINGS = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


@dataclass(kw_only=True)
class Home:
    """One process of a Ray cluster.

    Attributes:
        place: name of the place; empty for the driver.
        link: link of this process.
        load: meter of the load of the parties in this process.
        handles: handles of the parties in this process, by name.
        together: calls to other places that leave at the end of the turn, by place.
    """

    place: str = ""
    link: Link = field(default_factory=Link)
    load: LoadMeter = field(default_factory=LoadMeter)
    handles: dict[str, Any] = field(default_factory=dict)
    together: dict[str, Any] = field(default_factory=dict)

    def furnish(self, rules: LinkRules, network: Network | None) -> None:
        """Remove all parties, and start a new link with these rules and this network."""
        self.link = make_link(rules, network)
        self.handles.clear()
        self.together.clear()

    def now_s(self) -> float:
        """Return the time of a value that is computed now, on the clock of an emulated run."""
        network = self.link.network
        return network.now_s() if network is not None else 0.0

    def loads(self) -> list[PartyLoad]:
        """Return the loads of the parties here since the previous call."""
        return with_coding(self.load.taken(), self.link.coding())

    def crossing(self, verb: str, party: str) -> Crossing:
        """Return the kinds of values of a verb of a party in this process."""
        found: Crossing = self.handles[party].crossings.get(verb, UNDECLARED)
        return found


here: ContextVar[Home] = ContextVar("here")
"""The process of the party whose coroutine is running, inside a place."""


class HomePromise(LocalPromise):
    """The promise of a call that is made in this process, whose waits are measured.

    Args:
        task: the call, or the future of its answer.
        home: this process.
        party: name of the party that is called.
        answer: what the answer is.
    """

    def __init__(self, task: asyncio.Future[Envelope], home: Home, party: str, answer: Answer) -> None:
        super().__init__(task, home.link, *answer)
        self._load = home.load
        self._party = party

    def received(self, kind: Kind, step: Any, due: Due | None) -> Generator[Any, None, Any]:
        with self._load.waiting(current_party.get(), self._party):
            return (yield from super().received(kind, step, due))


class RayPromise:
    """The promise of an actor call; awaiting it fetches the value over the link."""

    def __init__(self, ref: Any, party: str, place: str, home: Home, answer: Answer, *, submits: bool = False) -> None:
        self.ref, self.place = ref, place
        self._party = party  # the one that was called
        self._home = home
        self._answer = answer
        self._submits = submits  # the receiver has taken what codecs have put aside

    def __await__(self) -> Generator[Any, None, Any]:
        return self.received(*self._answer)

    def received(self, kind: Kind, step: Any, due: Due | None) -> Generator[Any, None, Any]:
        """Wait for the value and take it as a value of this kind."""
        party, link = current_party.get(), self._home.link
        try:
            with self._home.load.waiting(party, self._party):
                source, made_s, size_bytes, value = yield from self.ref.__await__()
        except RayTaskError as error:
            raise cause_of(error) from None
        except GONE as error:
            raise PlaceLost(self.place, first_line(error)) from None
        if self._submits:
            link.taken(party)
        if not size_bytes and due is None:
            return value
        value = link.arriving(source, party, unpack(value) if size_bytes else value, size_bytes, kind, step, due)
        if size_bytes and link.network is not None:
            yield from received(link.network, source, party, size_bytes, made_s, kind, value, step).__await__()
        return value


class HomeHandle(LocalHandle):
    """The handle of a party in the same place, whose load is measured."""

    def __init__(self, name: str, party: Any, home: Home, own: Mapping[str, Crossing]) -> None:
        super().__init__(name, party, home.link, own)
        self._home = home

    def _call(self, verb: str, *args: Any, **kwargs: Any) -> Promise[Any]:
        answer = self._answer(verb, args, kwargs)
        task = asyncio.ensure_future(self._sent(verb, args, kwargs))
        return HomePromise(task, self._home, self.name, answer)

    async def _run(self, caller: str, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Envelope:
        are_answered_together.set(False)  # what the caller says of its calls is not said of those of this party
        with self._home.load.answering(self.name):
            return await super()._run(caller, verb, args, kwargs)


async def made_here(value: Any) -> Any:
    """Return the envelope of a call within this process, or another value as it is."""
    return await value.envelope() if isinstance(value, LocalPromise) else value


def taken(home: Home, caller: str, made: asyncio.Future[Envelope]) -> None:
    """Note that the receiver has taken what codecs have put aside."""
    if not made.cancelled() and made.exception() is None:
        home.link.taken(caller)


def outgoing(caller: str, value: Any, now_s: float) -> Sealed:
    """Return an argument in the form that is sent to another process."""
    return value.sealed() if isinstance(value, Envelope) else sealed(caller, value, now_s)


def keep_freed_memory() -> bool:
    """Let this process keep up to 256 MiB of freed memory, and return whether this was set.

    Nothing is set if the C library is not glibc, or if the environment has allocator settings of the user.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None or any(name in os.environ for name in _OWN_SETTINGS):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT_BYTES) and mallopt(_MMAP_THRESHOLD, _LARGEST_IN_HEAP_BYTES))


class Labels(logging.Filter):
    """A filter that adds the names of the place and of the running party to every record."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self._place = place

    def filter(self, record: logging.LogRecord) -> bool:
        party = current_party.get()
        record.place = self._place
        record.party = "-" if party == COORDINATOR else party  # the place itself
        return True


class Lines(logging.Formatter):
    """A formatter of `printable` lines: names and errors in them may be those of others."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def label_logs(place: str) -> None:
    """Write the log of raysplit in this process to standard error, with a line per owner and round."""
    handler = logging.StreamHandler()
    handler.setFormatter(Lines(FORMAT))
    handler.addFilter(Labels(place))
    logger = logging.getLogger("raysplit")
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
