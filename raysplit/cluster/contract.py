"""The contract between parties and the cluster that carries their calls.

A party is a plain object whose verbs are methods, most of them coroutines. A party calls others through handles:
``handle.verb(...)`` starts the call at once and returns a *promise*. Awaiting the promise fetches the value; passing it
as an argument of another call sends the value from the party that computes it directly to the party that needs it.

The cluster carries calls out on one event loop (`LocalCluster`) or by Ray's actors (`RayCluster`), paced or not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

COORDINATOR = "coordinator"
"""The party name under which the driver's traffic is counted."""

current_party: ContextVar[str] = ContextVar("current_party", default=COORDINATOR)
"""The name of the party whose coroutine is running."""

current_caller: ContextVar[str] = ContextVar("current_caller", default="")  # the party whose call is answered
current_samples: ContextVar[Any] = ContextVar("current_samples", default=None)
"""The numbers of the samples [B] in the mini-batch of the owner whose coroutine is running, or None."""

are_answered_together: ContextVar[bool] = ContextVar("are_answered_together", default=False)
"""Whether the calls that are made now are only of use when all of them are answered."""

Role = Literal["owner", "node", "aggregator", "evaluator"]

_COPY_MARK = "@"


def name_at(name: str, where: str | int) -> str:
    """Return the name of a copy of a party, or of a temporary party: ``owner-3@depth``."""
    return f"{name}{_COPY_MARK}{where}"


def original(name: str) -> str:
    """Return the name of the party that this is a copy of, or the name itself."""
    return name.partition(_COPY_MARK)[0]


@contextmanager
def answered_together() -> Iterator[None]:
    """Make calls within this context whose answers are awaited together: they may travel in one message each way.

    A failure of one is told at once. Leave the context before awaiting anything::

        with answered_together():
            runs = [owner.run_round(program, team, context) for owner in owners]
        reports = await gather(*runs)
    """
    before = are_answered_together.set(True)
    try:
        yield
    finally:
        are_answered_together.reset(before)


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Promise(Protocol[T_co]):
    """The future result of a call: awaitable, and accepted as a top-level argument of any verb."""

    def __await__(self) -> Generator[Any, Any, T_co]: ...


Given: TypeAlias = T | Promise[T]
"""The type of a verb's argument: the value, or a promise of it."""


class Handle:
    """A reference to a party: ``handle.verb(*args, **kwargs)`` starts a call and returns a `Promise`.

    A handle accepts every name as a verb. Annotate it with the protocol of a role (`raysplit.actors.verbs`) to have the
    verbs checked by mypy.

    Attributes:
        name: the party's name.
    """

    name: str

    def __getattr__(self, verb: str) -> Callable[..., Promise[Any]]:
        raise AttributeError(verb)  # the handles of a cluster turn it into a call


@dataclass(frozen=True, kw_only=True)
class PartySpec:
    """The description of one party: ``build(name=name, **arguments)`` creates it in the place where it will live.

    Attributes:
        name: name of the party, unique in a run, for example ``owner-3``.
        role: ``"owner"``, ``"node"``, ``"aggregator"`` or ``"evaluator"``; the layout assigns places by role.
        build: importable callable that returns the party: a class, or a function.
        arguments: keyword arguments of ``build``, which this party alone receives, for example its shard.

    Example::

        PartySpec(name="node-0", role="node", build=ComputeNode, arguments={"recipe": recipe, "loss": "cross_entropy"})
    """

    name: str
    role: Role
    build: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)


class KindTraffic(NamedTuple):
    """Traffic of one kind of value: the bytes that crossed, and those of the same values without a codec."""

    kind: str
    num_bytes: int
    raw_bytes: int


@dataclass(frozen=True, kw_only=True)
class LinkTraffic:
    """Traffic of one link: the tensors' payload in bytes, and the number of messages that held tensors.

    Attributes:
        kinds: the bytes by kind of value, in the order of the kinds; empty if they were not told apart.
    """

    source: str
    destination: str
    num_bytes: int
    num_messages: int
    kinds: tuple[KindTraffic, ...] = ()

    @property
    def raw_bytes(self) -> int:
        """The bytes of the same values without a codec."""
        return sum(kind.raw_bytes for kind in self.kinds) if self.kinds else self.num_bytes


@dataclass(frozen=True, kw_only=True)
class PartyLoad:
    """Load of a party since the previous measurement.

    Attributes:
        wait_s: seconds during which the party waited for at least one answer; in `wait_s_for` by whose, overlapping.
        peak_calls: largest number of calls that the party had received and not yet answered.
        encode_s, decode_s: seconds in which codecs encoded and decoded its values, as measured.
        errors: kind, squared error and square of the values that codecs changed, where that is measured.
    """

    party: str
    wait_s: float
    peak_calls: int
    encode_s: float = 0.0
    decode_s: float = 0.0
    errors: tuple[tuple[str, float, float], ...] = ()
    wait_s_for: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """The result of a repair.

    Attributes:
        handles: handles of all parties, added ones included.
        remade: names of the parties that had to be created again.
    """

    handles: Mapping[str, Handle]
    remade: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Membership:
    """The parties that are present.

    Attributes:
        handles: handles of all parties that have a place.
        came: names of the parties that were created since the previous call of `Cluster.members`.
        num_places: number of running places.
    """

    handles: Mapping[str, Handle]
    came: tuple[str, ...]
    num_places: int


class Cluster(Protocol):
    """The interface of clusters: where parties live and how their calls travel.

    `LocalCluster`, `RayCluster` and `ElasticRayCluster` implement it. In short::

        handles = await cluster.deploy([PartySpec(...), ...])
        reply = await handles["owner-3"].verb(argument)
        await cluster.close()
    """

    async def deploy(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        """Create the parties and return their handles by name; raise `NoRoom` if there is no room for them."""
        ...

    async def add(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        """Create parties in the existing places while others work, and return their handles by name."""
        ...

    async def add_apart(self, sets: Mapping[str, Sequence[PartySpec]]) -> dict[str, Handle]:
        """Create further parties while others work, each set in places of its own, and return their handles by name.

        Raises:
            NoRoom: if there is no room for all sets; then none of them is created.
        """
        ...

    async def remove(self, names: Sequence[str]) -> None:
        """Remove added parties and the places that were created for them; ignore unknown names."""
        ...

    async def traffic(self) -> list[LinkTraffic]:
        """Return the traffic counted so far, one record per link, sorted by source and destination."""
        ...

    async def party_loads(self) -> list[PartyLoad]:
        """Return the load of each party since the previous call, by party; in one process only that of codecs."""
        ...

    async def watch(self, silence_s: float) -> None:
        """Run until canceled; raise `PlaceLost` for a place that has not answered for ``silence_s`` seconds."""
        ...

    async def repair(self, parties: Sequence[PartySpec], lost: str, silence_s: float) -> Repaired:
        """Restart every lost place and create its parties again; the other parties stay as they are.

        Traffic counts may restart at zero. A set from `add_apart` whose places find no room any more is removed.

        Args:
            parties: descriptions of the deployed parties; added ones are created as they were described then.
            lost: name of a place that is known to be lost.
            silence_s: seconds after which a place that does not answer counts as lost.

        Raises:
            PlaceLost: if a place cannot be restarted.
        """
        ...

    async def members(self) -> Membership:
        """Return the parties that are present now; on an elastic cluster, those whose places have found room."""
        ...

    async def close(self) -> None:
        """Release all places; further calls do nothing."""
        ...


class NoRoom(RuntimeError):
    """Error raised when the cluster has no room for further places; the message says what is missing."""


class PlaceLost(RuntimeError):
    """Error raised when a place (a process or a machine) has ended or does not answer; its parties are lost with it.

    Attributes:
        place: name of the lost place.
        reason: how the loss showed.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"place {place} is lost: {reason}")
        self.place = place
        self.reason = reason

    def __reduce__(self) -> tuple[type[PlaceLost], tuple[str, str]]:
        return type(self), (self.place, self.reason)


async def gather(*promises: Awaitable[Any]) -> list[Any]:
    """Await all promises and return their values in the order given.

    The first failure cancels the waits for the other promises and is raised.

    Example::

        await gather(*[node.load_weights(part) for node, part in zip(nodes, parts, strict=True)])
    """
    waits = [asyncio.ensure_future(value_of(promise)) for promise in promises]
    try:
        return list(await asyncio.gather(*waits))
    except BaseException:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
        raise


async def value_of(promise: Awaitable[T]) -> T:
    """Await a promise in a coroutine, as `asyncio.ensure_future` and the like require."""
    return await promise
