"""Calls within one process that are tasks of the running event loop, one each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, ClassVar

from raysplit.cluster.contract import Handle, Promise, current_party
from raysplit.cluster.emulation.network import Network
from raysplit.cluster.links.tensors import Envelope, num_bytes
from raysplit.cluster.links.traffic import TrafficMeter


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


class LocalHandle(Handle):
    """The handle of a party that lives in this process."""

    promise: ClassVar[type[LocalPromise]] = LocalPromise

    def __init__(self, name: str, party: Any, meter: TrafficMeter, network: Network | None = None) -> None:
        self.name = name
        self._meter = meter
        self._party = party
        self._network = network

    def __getattr__(self, verb: str) -> Callable[..., Promise[Any]]:
        if verb.startswith("_"):
            raise AttributeError(verb)
        call = self.__dict__[verb] = partial(self._call, verb)  # found without asking from now on
        return call

    def _call(self, verb: str, *args: Any, **kwargs: Any) -> Promise[Any]:
        task = asyncio.get_running_loop().create_task(self._run(current_party.get(), verb, args, kwargs))
        return self.promise(task, self._meter, self._network)

    async def _run(self, caller: str, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Envelope:
        current_party.set(self.name)  # this task's own context, or put back by who awaits it
        network, sent_bytes, promised = self._network, 0, False
        for value in (*args, *kwargs.values()):
            if hasattr(value, "__await__"):
                promised = True
            elif size := num_bytes(value):
                self._meter.add(caller, self.name, size)
                sent_bytes += size
        if network is not None and sent_bytes:
            await network.carry(caller, self.name, sent_bytes, network.now_s())
        if promised:
            args = tuple([await _kept(value) for value in args])
            kwargs = {name: await _kept(value) for name, value in kwargs.items()}
        result = getattr(self._party, verb)(*args, **kwargs)
        if hasattr(result, "__await__"):
            result = await result
        return Envelope(self.name, result, network.now_s() if network is not None else 0.0)


async def _kept(value: Any) -> Any:
    """What was promised; any other value as it is."""
    return await value if hasattr(value, "__await__") else value
