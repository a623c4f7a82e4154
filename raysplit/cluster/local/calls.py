"""Calls within one process, each a task of the running event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from raysplit.cluster.arriving.check import Due, due_answer, due_arguments, promised
from raysplit.cluster.contract import Handle, Promise, current_caller, current_party
from raysplit.cluster.emulation.coding import Coder
from raysplit.cluster.emulation.network import Network
from raysplit.cluster.links.kinds import BEGINS, SUBMIT, UNDECLARED, Crossing, Kind
from raysplit.cluster.links.link import LINKS, Link, arguments_leaving
from raysplit.cluster.links.tensors import Envelope, num_bytes

logger = logging.getLogger(__name__)

Answer = tuple[Kind, Any, Due | None]
"""What the answer to a call is: the kind of its tensors, the step of the call, and what is due."""


class LocalPromise:
    """A running call; its value arrives over the link when a party awaits it.

    Args:
        task: the call, or the future of its answer.
        link: link of this process.
        kind: kind of the tensors in the answer.
        step: step of the call, for codecs.
        due: what the answer has to be.
    """

    def __init__(
        self,
        task: asyncio.Future[Envelope],
        link: Link,
        kind: Kind = "other",
        step: Any = None,
        due: Due | None = None,
    ) -> None:
        self._task = task
        self._link = link
        self._kind: Kind = kind
        self._step = step
        self._due = due
        self._is_awaited = False

    def __del__(self) -> None:
        if not self._is_awaited:
            tell_failure(self._task)

    def __await__(self) -> Generator[Any, None, Any]:
        return self.received(self._kind, self._step, self._due)

    def received(self, kind: Kind, step: Any, due: Due | None) -> Generator[Any, None, Any]:
        """Wait for the value and take it as a value of this kind; a verb takes it as what its parameter is."""
        self._is_awaited = True
        envelope = yield from self._task.__await__()
        if not envelope.num_bytes and due is None:
            return envelope.value
        receiver, link = current_party.get(), self._link
        value = link.arriving(envelope.source, receiver, envelope.value, envelope.num_bytes, kind, step, due)
        if link.network is not None and envelope.num_bytes:
            ends = envelope.source, receiver
            carried = received(link.network, *ends, envelope.num_bytes, envelope.made_s, kind, value, step)
            yield from carried.__await__()
        return value

    async def envelope(self) -> Envelope:
        """Return the value as it was sent, with its source and uncounted, to forward it to another party."""
        self._is_awaited = True
        return await self._task


def tell_failure(task: asyncio.Future[Envelope]) -> None:
    """Tell the error of a call whose promise is gone, as soon as it has ended; asyncio would print a traceback."""
    if not task.done():
        task.add_done_callback(tell_failure)
    elif not task.cancelled() and (error := task.exception()) is not None:
        name = task.get_name() if isinstance(task, asyncio.Task) else "a call"
        logger.error("%s failed, and nobody awaits it: %s: %s", name, type(error).__name__, error)


class LocalHandle(Handle):
    """The handle of a party that lives in this process.

    Args:
        name: name of the party.
        party: the object whose methods are the verbs.
        link: link of this process.
        own: verbs with the kinds of values that the party's class declares.

    Attributes:
        crossings: verbs with the kinds of their values.
        holds: verbs with what their values are.
    """

    def __init__(self, name: str, party: Any, link: Link, own: Mapping[str, Crossing] | None = None) -> None:
        self.name = name
        self._link = link
        self._party = party
        self.crossings = link.crossings(own or {})
        self.holds = link.holds(own or {})

    def __getattr__(self, verb: str) -> Callable[..., Promise[Any]]:
        if verb.startswith("_"):
            raise AttributeError(verb)
        call = self.__dict__[verb] = partial(self._call, verb)  # later uses find it without __getattr__
        return call

    def _call(self, verb: str, *args: Any, **kwargs: Any) -> Promise[Any]:
        answer = self._answer(verb, args, kwargs)
        task = asyncio.get_running_loop().create_task(self._sent(verb, args, kwargs), name=f"{verb} of {self.name}")
        return LocalPromise(task, self._link, *answer)

    def _answer(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer:
        """Return the kind of the tensors in the answer of a call, the step of the call, and what is due."""
        crossing = self.crossings.get(verb, UNDECLARED)
        step = crossing.step_of(args, kwargs) if self._link.codes else None
        return crossing.answer, step, due_answer(self.holds.get(verb), args, kwargs)

    def _sent(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Envelope]:
        """Return the coroutine of the call, with its arguments encoded now."""
        caller = current_party.get()
        if self._link.codes and (crossing := self.crossings.get(verb)) is not None:
            args, kwargs = arguments_leaving(self._link, crossing, verb, (caller, self.name), args, kwargs)
        return self._run(caller, verb, args, kwargs)

    async def _run(self, caller: str, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Envelope:
        current_party.set(self.name)  # in the context of this task, or reset by the caller that awaits it
        current_caller.set(caller)
        link, crossing, sent_bytes, later = self._link, self.crossings.get(verb, UNDECLARED), 0, list[int]()
        step = None
        if link.codes:
            step = crossing.step_of(args, kwargs)
            if verb in BEGINS:
                link.begin(self.name, step)
        network, values, arrived = link.network, [*args, *kwargs.values()], list[tuple[Kind, int, Any]]()
        dues = due_arguments(self.holds.get(verb), args, kwargs) or [None] * len(values)
        for i, value in enumerate(values):
            if hasattr(value, "__await__"):
                later.append(i)
            elif (size := num_bytes(value)) or dues[i] is not None:
                kind = kind_of(crossing, i, args, kwargs)
                values[i] = link.arriving(caller, self.name, value, size, kind, step, dues[i])
                sent_bytes += size
                if size and network is not None and network.coder is not None:
                    arrived.append((kind, num_bytes(values[i]), step))
        if network is not None and sent_bytes:
            for coded in arrived:
                await network.coder.encode(caller, self.name, *coded)  # type: ignore[union-attr]  # they need one
            await network.carry(caller, self.name, sent_bytes, network.now_s())
            for coded in arrived:
                await network.coder.decode(caller, self.name, *coded)  # type: ignore[union-attr]
        for i in later:
            kind, due = kind_of(crossing, i, args, kwargs), promised(dues[i])
            if hasattr(values[i], "received"):
                values[i] = await _Taken(values[i], kind, step, due)
            else:  # an awaitable of one's own
                value = await values[i]
                values[i] = link.arriving(caller, self.name, value, num_bytes(value), kind, step, due)
        named = {}
        if kwargs:
            named = dict(zip(kwargs, values[len(args) :], strict=True))
            del values[len(args) :]
        if link.keeps_state:
            restore_links(link, self.name, verb, values)
        result = getattr(self._party, verb)(*values, **named)
        if hasattr(result, "__await__"):
            result = await result
        if link.keeps_state:
            result = with_links(link, caller, self.name, verb, result)
        if network is not None and network.coder is not None:
            await network.coder.encode(self.name, caller, crossing.answer, num_bytes(result), step)
        if link.codes and crossing is not UNDECLARED:
            result = link.leaving(self.name, "", result, crossing.answer, step, verb)
        return Envelope(self.name, result, network.now_s() if network is not None else 0.0)


class _Taken:
    """A promise whose value is taken as an argument of this kind."""

    __slots__ = ("_due", "_kind", "_promise", "_step")

    def __init__(self, promise: Any, kind: Kind, step: Any, due: Due | None) -> None:
        self._promise = promise
        self._kind: Kind = kind
        self._step = step
        self._due = due

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._promise.received(self._kind, self._step, self._due)  # type: ignore[no-any-return]


def kind_of(crossing: Crossing, position: int, args: Sequence[Any], names: Iterable[str]) -> Kind:
    """Return the kind of an argument of a call by its position, the keyword arguments last."""
    if position < len(args):
        return crossing.positional(position)
    return crossing.named([*names][position - len(args)])


async def received(
    network: Network, source: str, destination: str, size_bytes: int, made_s: float, kind: Kind, value: Any, step: Any
) -> None:
    """Take the described time of the transfer of a value, ready since ``made_s``, and of decoding it."""
    await network.carry(source, destination, size_bytes, made_s)
    if network.coder is not None:
        await network.coder.decode(source, destination, kind, num_bytes(value), step)


async def time_of_encoding(
    coder: Coder, crossing: Crossing, caller: str, party: str, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Take the described time of encoding the arguments of a call."""
    step = crossing.step_of(args, kwargs)
    for i, value in enumerate([*args, *kwargs.values()]):
        if not hasattr(value, "__await__") and (size := num_bytes(value)):
            await coder.encode(caller, party, kind_of(crossing, i, args, kwargs), size, step)


def restore_links(link: Link, party: str, verb: str, values: Sequence[Any]) -> None:
    """Restore what the codecs of a party kept, before the party restores its own state."""
    if verb == "load_state_dict":
        link.load_state(party, values[0].get(LINKS))
    elif verb == "recut":
        link.load_state(party, {key: t for key, t in link.state(party).items() if not key.startswith("cache/")})


def with_links(link: Link, caller: str, party: str, verb: str, result: Any) -> Any:
    """Add what the codecs of a party keep to its state, and note that a party has taken an update."""
    if verb == SUBMIT:
        link.taken(caller)
    return {**result, LINKS: link.state(party)} if verb == "state_dict" else result
