"""Calls within one process, each a task of the running event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Mapping
from functools import partial
from typing import Any

from raysplit.cluster.contract import Handle, Promise, current_party
from raysplit.cluster.links.kinds import Crossing
from raysplit.cluster.links.link import Link, arguments_leaving
from raysplit.cluster.links.tensors import Envelope, num_bytes


class LocalPromise:
    """A running call; its value arrives over the link when a party awaits it."""

    def __init__(self, task: asyncio.Task[Envelope], link: Link) -> None:
        self._task = task
        self._link = link

    def __await__(self) -> Generator[Any, None, Any]:
        envelope = yield from self._task.__await__()
        if not envelope.num_bytes:
            return envelope.value
        receiver, link = current_party.get(), self._link
        value = link.arriving(envelope.source, receiver, envelope.value, envelope.num_bytes)
        if link.network is not None:
            carried = link.network.carry(envelope.source, receiver, envelope.num_bytes, envelope.made_s)
            yield from carried.__await__()
        return value

    async def envelope(self) -> Envelope:
        """Return the value as it was sent, with its source and uncounted, to forward it to another party."""
        return await self._task


class LocalHandle(Handle):
    """The handle of a party that lives in this process.

    Args:
        name: name of the party.
        party: the object whose methods are the verbs.
        link: link of this process.
        own: verbs with the kinds of values that the party's class declares.

    Attributes:
        crossings: verbs whose values are coded.
    """

    def __init__(self, name: str, party: Any, link: Link, own: Mapping[str, Crossing] | None = None) -> None:
        self.name = name
        self._link = link
        self._party = party
        self.crossings = link.crossings(own or {})

    def __getattr__(self, verb: str) -> Callable[..., Promise[Any]]:
        if verb.startswith("_"):
            raise AttributeError(verb)
        call = self.__dict__[verb] = partial(self._call, verb)  # later uses find it without __getattr__
        return call

    def _call(self, verb: str, *args: Any, **kwargs: Any) -> Promise[Any]:
        return LocalPromise(asyncio.get_running_loop().create_task(self._sent(verb, args, kwargs)), self._link)

    def _sent(self, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Envelope]:
        """Return the coroutine of the call, with its arguments encoded now."""
        caller, crossing = current_party.get(), self.crossings.get(verb)
        if crossing is not None:
            args, kwargs = arguments_leaving(self._link, crossing, caller, self.name, args, kwargs)
        return self._run(caller, verb, args, kwargs)

    async def _run(self, caller: str, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Envelope:
        current_party.set(self.name)  # in the context of this task, or reset by the caller that awaits it
        link, sent_bytes, promised = self._link, 0, []
        network, values = link.network, [*args, *kwargs.values()]
        for i, value in enumerate(values):
            if hasattr(value, "__await__"):
                promised.append(i)
            elif size := num_bytes(value):
                values[i] = link.arriving(caller, self.name, value, size)
                sent_bytes += size
        if network is not None and sent_bytes:
            await network.carry(caller, self.name, sent_bytes, network.now_s())
        for i in promised:
            values[i] = await values[i]
        named = {}
        if kwargs:
            named = dict(zip(kwargs, values[len(args) :], strict=True))
            del values[len(args) :]
        result = getattr(self._party, verb)(*values, **named)
        if hasattr(result, "__await__"):
            result = await result
        crossing = self.crossings.get(verb)
        if crossing is not None:
            result = link.leaving(self.name, "", result, crossing.answer, crossing.step_of(values, named))
        return Envelope(self.name, result, network.now_s() if network is not None else 0.0)
