"""The contract between parties and the cluster that carries their calls.

A party is a plain object whose verbs are methods, most of them coroutines. A party sees others through handles:
``handle.verb(...)`` starts the call at once and gives a *promise*. Await it and the value comes here; pass it on
as an argument of another call and the value goes straight from its maker to its user.

What a call means is the cluster's business: a direct call on one event loop (`LocalCluster`), a Ray actor call
(`RayCluster`), or either of them paced like described hardware.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

COORDINATOR = "coordinator"
"""The name under which the driver's own traffic is counted."""

current_party: ContextVar[str] = ContextVar("current_party", default=COORDINATOR)
"""The party on whose behalf the running coroutine acts."""

Role = Literal["owner", "node", "aggregator", "evaluator"]

_COPY_MARK = "@"


def name_at(name: str, where: str | int) -> str:
    """The name of a copy of a party, or of a party that comes for a while: ``owner-3@depth``."""
    return f"{name}{_COPY_MARK}{where}"


def original(name: str) -> str:
    """The party whose copy this is; for any other party, itself."""
    return name.partition(_COPY_MARK)[0]


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Promise(Protocol[T_co]):
    """A value under way: awaitable, and accepted as a top-level argument of any verb."""

    def __await__(self) -> Generator[Any, Any, T_co]: ...


Given: TypeAlias = T | Promise[T]
"""An argument of a verb: the value itself, or a promise of it, which then travels straight to who needs it."""


class Handle:
    """The far end of a party. ``handle.verb(*args)`` calls the verb and returns a `Promise`.

    It takes any verb. Annotated with the protocol of a role (`raysplit.actors.verbs`) it takes those of the role.
    """

    name: str

    def __getattr__(self, verb: str) -> Callable[..., Promise[Any]]:
        raise AttributeError(verb)  # a cluster's handles make a call of it


@dataclass(frozen=True, kw_only=True)
class PartySpec:
    """How to make one party: ``build(name=name, **arguments)`` runs at the place where the party will live.

    Attributes:
        name: unique in a run, for example ``owner-3``.
        role: what the party is; the layout puts roles on places.
        build: an importable callable.
        arguments: what only this party may see, for example its shard.
    """

    name: str
    role: Role
    build: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LinkTraffic:
    """What has crossed one link: tensor payload in bytes, and the number of values that carried tensors."""

    source: str
    destination: str
    num_bytes: int
    num_messages: int


@dataclass(frozen=True, kw_only=True)
class PartyLoad:
    """How hard a party was pressed since it was last asked.

    Attributes:
        wait_s: how long it waited for an answer of somebody else, whatever the number of answers that were out.
        peak_calls: how many calls it had taken and not answered at the most.
    """

    party: str
    wait_s: float
    peak_calls: int


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """A cluster that is whole again.

    Attributes:
        handles: of all the parties that there are, those among them that were added.
        remade: the names of the parties that had to be made anew.
    """

    handles: Mapping[str, Handle]
    remade: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Membership:
    """Who is there.

    Attributes:
        handles: of all parties that have a place.
        came: those among them that were made since the roll was last called.
        num_places: how many places are up.
    """

    handles: Mapping[str, Handle]
    came: tuple[str, ...]
    num_places: int


class Cluster(Protocol):
    """Where parties live and how their calls travel."""

    async def deploy(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        """Make the parties and return their handles by name."""
        ...

    async def add(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        """Make more parties while others work, in the places there are."""
        ...

    async def add_apart(self, sets: Mapping[str, Sequence[PartySpec]]) -> dict[str, Handle]:
        """Make more parties while others work, every set in places of its own, or none of them: `NoRoom`."""
        ...

    async def remove(self, names: Sequence[str]) -> None:
        """Let added parties go, and the places that were made for them alone; names that nobody has are passed over."""
        ...

    async def traffic(self) -> list[LinkTraffic]:
        """Everything counted so far, one record per link, sorted by source and destination."""
        ...

    async def party_loads(self) -> list[PartyLoad]:
        """Sorted by party, since it was last asked; empty where all share one process and nobody measures."""
        ...

    async def watch(self, silence_s: float) -> None:
        """Return never; raise `PlaceLost` for a place that answers nothing for so long."""
        ...

    async def repair(self, parties: Sequence[PartySpec], lost: str, silence_s: float) -> Repaired:
        """Make every place anew that is gone, the place ``lost`` among them, with its parties.

        The others stay as they are. ``parties`` describes those that were deployed; the others are made as they were
        when they were added. A set that was added apart goes as a whole where its places find no room any more. Counts
        of traffic begin anew. Raises `PlaceLost` where the cluster cannot be made whole.
        """
        ...

    async def members(self) -> Membership:
        """Who is there, between rounds; of a cluster whose places come one by one, those for whom there was room."""
        ...

    async def close(self) -> None:
        """Release every place. Idempotent."""
        ...


class NoRoom(RuntimeError):
    """The cluster has no room for further places; the message says what is missing."""


class PlaceLost(RuntimeError):
    """A place (process or machine) is gone or does not answer; its parties are lost with it."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"place {place} is lost: {reason}")
        self.place = place
        self.reason = reason

    def __reduce__(self) -> tuple[type[PlaceLost], tuple[str, str]]:
        return type(self), (self.place, self.reason)


async def gather(*promises: Awaitable[Any]) -> list[Any]:
    """Await all promises; on the first failure cancel the waits for the rest and raise it."""
    waits = [asyncio.ensure_future(value_of(promise)) for promise in promises]
    try:
        return list(await asyncio.gather(*waits))
    except BaseException:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        raise


async def value_of(promise: Awaitable[T]) -> T:
    """What is promised: a coroutine, for a task of its own that waits for it."""
    return await promise
