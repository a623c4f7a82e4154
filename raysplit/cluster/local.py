"""`LocalCluster`: every party in this process, every call a task on the running event loop.

The reference for bitwise equality, the debugger's friend and the stage of the simulator.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from raysplit.cluster.contract import Handle, LinkTraffic, PartySpec, current_party
from raysplit.cluster.wire import Envelope, TrafficMeter


class LocalPromise:
    """A running call; the value is counted on the link from its maker to whoever awaits it."""

    def __init__(self, task: asyncio.Task[Envelope], meter: TrafficMeter) -> None:
        self._task = task
        self._meter = meter

    def __await__(self) -> Generator[Any, None, Any]:
        envelope = yield from self._task.__await__()
        self._meter.add(envelope.source, current_party.get(), envelope.num_bytes)
        return envelope.value

    async def envelope(self) -> Envelope:
        """The value under its maker's name, uncounted: for sending it on."""
        return await self._task


class LocalHandle:
    """The handle of a party that lives in this process."""

    def __init__(self, name: str, party: Any, meter: TrafficMeter) -> None:
        self.name = name
        self._party = party
        self._meter = meter

    def __getattr__(self, verb: str) -> Callable[..., LocalPromise]:
        if verb.startswith("_"):
            raise AttributeError(verb)
        return partial(self._call, verb)

    def _call(self, verb: str, *args: Any, **kwargs: Any) -> LocalPromise:
        task = asyncio.get_running_loop().create_task(self._run(current_party.get(), verb, args, kwargs))
        return LocalPromise(task, self._meter)

    async def _run(self, caller: str, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Envelope:
        current_party.set(self.name)  # this task's own context
        args = tuple([await self._receive(caller, value) for value in args])
        kwargs = {key: await self._receive(caller, value) for key, value in kwargs.items()}
        result = getattr(self._party, verb)(*args, **kwargs)
        return Envelope(self.name, await result if inspect.isawaitable(result) else result)

    async def _receive(self, caller: str, value: Any) -> Any:
        if hasattr(value, "__await__"):  # a promise, of this or of another cluster
            return await value
        self._meter.add(caller, self.name, Envelope(caller, value).num_bytes)
        return value


class LocalCluster:
    """All parties on one event loop, in one thread."""

    def __init__(self) -> None:
        self._meter = TrafficMeter()

    async def deploy(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        return {p.name: LocalHandle(p.name, p.build(name=p.name, **p.arguments), self._meter) for p in parties}

    async def traffic(self) -> list[LinkTraffic]:
        return self._meter.records()

    async def close(self) -> None:
        """Nothing is held outside this process."""
