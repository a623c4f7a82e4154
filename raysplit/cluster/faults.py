"""Fault injection for tests: a cluster whose parties die, fall silent or are slow at a given call.

Faults are triggered by the number of calls, not by time, so a test with faults is as repeatable as one without.
`FaultyCluster` wraps any cluster. A fault is part of the party, so it occurs in whatever process the party lives.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from raysplit.cluster.arriving.forms import ANYTHING, Expected
from raysplit.cluster.contract import (
    Cluster,
    Handle,
    LinkTraffic,
    Membership,
    PartyLoad,
    PartySpec,
    PlaceLost,
    Repaired,
)

Kind = Literal["die", "silence", "delay"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault of one party.

    Attributes:
        party: name of the party.
        at_call: number of the call, counted from 1, at which the fault occurs.
        verb: verb whose calls are counted; None counts all calls.
        kind: ``"die"`` ends the party; ``"silence"`` never answers this call; ``"delay"`` starts the call after
            ``turns`` turns of the event loop and then ``delay_s`` seconds on its clock.
        turns: turns of the event loop between the start of the call and the death, or before a delayed call.
        delay_s: length of a delay in seconds.
        life: number of repairs of the cluster after which the fault is active; 0 for the parties first deployed.
    """

    party: str
    at_call: int
    verb: str | None = None
    kind: Kind = "die"
    turns: int = 0
    delay_s: float = 0.0
    life: int = 0


def end_process() -> None:
    """End the party's process at once, as the loss of its machine would."""
    os._exit(1)


def freeze_process() -> None:
    """Stop the party's process, which continues to exist and answers nothing."""
    os.kill(os.getpid(), signal.SIGSTOP)


def stay() -> None:
    """Leave the party's process running."""


class Doomed:
    """A party with faults, which behaves as usual until a fault occurs."""

    def __init__(
        self, *, name: str, build: Callable[..., Any], faults: Sequence[Fault], death: Callable[[], None], **given: Any
    ) -> None:
        self._name = name
        self._party = build(name=name, **given)
        self._faults = faults
        self._death = death
        self._counts = [0] * len(faults)
        self._running: set[asyncio.Task[Any]] = set()
        self._is_dead = False

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        return partial(self._call, verb)

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Return what the party expects."""
        expects: Callable[..., Expected] | None = getattr(self._party, "expects", None)
        return ANYTHING if expects is None else expects(content, given)

    @property
    def guard(self) -> Any:
        """The guard of the party, if it has one."""
        return getattr(self._party, "guard", None)

    async def _call(self, verb: str, *args: Any, **kwargs: Any) -> Any:
        if self._is_dead:
            raise PlaceLost(self._name, "it has died")
        fault = self._due(verb)
        if fault is not None and fault.kind == "silence":
            await asyncio.get_running_loop().create_future()
        if fault is not None and fault.kind == "delay":
            await _turns(fault.turns)
            await asyncio.sleep(fault.delay_s)
        work = asyncio.ensure_future(self._work(verb, args, kwargs))
        self._running.add(work)
        work.add_done_callback(self._running.discard)
        work.add_done_callback(_retrieve)
        if fault is not None and fault.kind == "die":
            await _turns(fault.turns)
            self._die()
        try:
            return await work
        except asyncio.CancelledError:
            if self._is_dead:
                raise PlaceLost(self._name, "it has died") from None
            raise

    async def _work(self, verb: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        result = getattr(self._party, verb)(*args, **kwargs)
        return await result if hasattr(result, "__await__") else result

    def _due(self, verb: str) -> Fault | None:
        struck = None
        for i, fault in enumerate(self._faults):
            self._counts[i] += fault.verb in (None, verb)
            if self._counts[i] == fault.at_call and fault.verb in (None, verb):
                struck = fault
        return struck

    def _die(self) -> None:
        self._death()
        self._is_dead = True
        for work in self._running:
            work.cancel()


def _retrieve(work: asyncio.Task[Any]) -> None:
    """Retrieve the exception of a task whose caller is gone, so that asyncio does not report it."""
    if not work.cancelled():
        work.exception()


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


class FaultyCluster:
    """A cluster whose parties have faults.

    Args:
        cluster: cluster on which the parties live.
        faults: faults of all parties.
        death: what happens to the process of a party that dies, for example `end_process`.

    Attributes:
        num_healed: number of repairs so far.
    """

    def __init__(self, cluster: Cluster, faults: Sequence[Fault], *, death: Callable[[], None] = stay) -> None:
        self._cluster = cluster
        self._faults = faults
        self._death = death
        self._added: dict[str, PartySpec] = {}
        self.num_healed = 0

    async def deploy(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        return await self._cluster.deploy(self._doomed(parties))

    async def add(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        self._added |= {party.name: party for party in parties}
        return await self._cluster.add(self._doomed(parties))

    async def add_apart(self, sets: Mapping[str, Sequence[PartySpec]]) -> dict[str, Handle]:
        self._added |= {party.name: party for parties in sets.values() for party in parties}
        return await self._cluster.add_apart({label: self._doomed(parties) for label, parties in sets.items()})

    async def remove(self, names: Sequence[str]) -> None:
        for name in names:
            self._added.pop(name, None)
        await self._cluster.remove(names)

    async def traffic(self) -> list[LinkTraffic]:
        return await self._cluster.traffic()

    async def party_loads(self) -> list[PartyLoad]:
        return await self._cluster.party_loads()

    async def watch(self, silence_s: float) -> None:
        await self._cluster.watch(silence_s)

    async def repair(self, parties: Sequence[PartySpec], lost: str, silence_s: float) -> Repaired:
        self.num_healed += 1
        there = {**self._added, **{party.name: party for party in parties}}
        return await self._cluster.repair(self._doomed(list(there.values())), lost, silence_s)

    async def members(self) -> Membership:
        return await self._cluster.members()

    async def close(self) -> None:
        await self._cluster.close()

    def _doomed(self, parties: Sequence[PartySpec]) -> list[PartySpec]:
        return [self._with_faults(party) for party in parties]

    def _with_faults(self, party: PartySpec) -> PartySpec:
        faults = tuple(f for f in self._faults if f.party == party.name and f.life == self.num_healed)
        if not faults:
            return party
        given = {"build": party.build, "faults": faults, "death": self._death, **party.arguments}
        return replace(party, build=Doomed, arguments=given)
