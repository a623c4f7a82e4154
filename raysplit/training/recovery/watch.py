"""Detection of places that stop answering, of rounds that take too long, and of rounds without progress."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from raysplit.algorithms.base import Algorithm
from raysplit.cluster.contract import Cluster, PartySpec, PlaceLost, gather, value_of
from raysplit.experiment.rules import ReliabilityRules

T = TypeVar("T")
_ANSWER_S = 5.0
_UNKNOWN = "unknown"


class RoundOverdue(RuntimeError):
    """Exception for a round that takes too long; the message has the parties that it waits for."""

    def __init__(self, what: str, waits_for: Sequence[str], detail: str) -> None:
        super().__init__(
            f"{what}, waiting for {detail or 'an unknown party'}; raise reliability.round_timeout_s or "
            f"stall_timeout_s, or set reliability.on_lost_place to drop to continue without them"
        )
        self.waits_for = tuple(waits_for)


async def attended(work: Coroutine[Any, Any, T], *watches: Coroutine[Any, Any, None]) -> T:
    """Await the work and return its result; the first exception of a watch cancels it and is raised."""
    running = asyncio.ensure_future(work)
    watching = {asyncio.ensure_future(watch) for watch in watches}
    try:
        done, _ = await asyncio.wait({running, *watching}, return_when=asyncio.FIRST_COMPLETED)
        if running not in done:
            for task in done:
                task.result()
        return await running
    finally:
        for task in (running, *watching):
            task.cancel()
        await asyncio.wait({running, *watching})


class Watch:
    """Watch over the rounds of a run.

    Args:
        rules: the timeouts.
        algorithm: the algorithm, attached to the cluster.
        parties: the deployed parties without the evaluators.
        cluster: the cluster that the parties are on.
    """

    def __init__(
        self, rules: ReliabilityRules, algorithm: Algorithm, parties: Sequence[PartySpec], cluster: Cluster
    ) -> None:
        self._rules = rules
        self._algorithm = algorithm
        self._own = parties
        self._cluster = cluster

    async def watched(self, work: Coroutine[Any, Any, T], round: int) -> T:
        """Await the work of a round; raise `PlaceLost` or `RoundOverdue` where it would never end."""
        return await attended(work, *self._watches(round))

    def _watches(self, round: int) -> list[Coroutine[Any, Any, None]]:
        rules = self._rules
        watches = [self._cluster.watch(rules.place_timeout_s)]
        if rules.round_timeout_s is not None:
            watches.append(self._in_time(round, rules.round_timeout_s))
        if rules.stall_timeout_s is not None:
            watches.append(self._in_motion(round, rules.stall_timeout_s))
        return watches

    async def _in_time(self, round: int, limit_s: float) -> None:
        await asyncio.sleep(limit_s)
        raise await self._overdue(f"round {round} has not ended in {limit_s:g} s", await self._progress())

    async def _in_motion(self, round: int, limit_s: float) -> None:
        # all parties answer, some are in the middle of a round, and none has made a step since the last look
        before: dict[str, Any] = {}
        while True:
            await asyncio.sleep(limit_s)
            now = await self._progress()
            is_at_work = any(step is not None for step in now.values())
            if now == before and is_at_work and _UNKNOWN not in now.values():
                raise await self._overdue(f"nothing has moved in round {round} for {limit_s:g} s", now)
            before = now

    @property
    def _there(self) -> list[PartySpec]:
        handles = self._algorithm.handles
        return [party for party in (*self._own, *self._algorithm.latecomers()) if party.name in handles]

    async def _progress(self) -> dict[str, Any]:
        """Return the current step of every owner; None for an owner that is not in a round."""
        handles = self._algorithm.handles
        owners = [party.name for party in self._there if hasattr(party.build, "progress")]
        return dict(zip(owners, await gather(*[_answer(handles[name].progress()) for name in owners]), strict=True))

    async def _overdue(self, what: str, progress: Mapping[str, Any]) -> RoundOverdue:
        # the parties that others wait for; where nobody waits, those that have not finished
        handles = self._algorithm.handles
        others = [party.name for party in self._there if hasattr(party.build, "absent")]
        absent = await gather(*[_answer(handles[name].absent()) for name in others])
        at_work = {name: step for name, step in progress.items() if step is not None}
        names = sorted({name for found in absent if found != _UNKNOWN for name in found} & at_work.keys())
        names = names or sorted(at_work)
        return RoundOverdue(what, names, ", ".join(f"{name} (at step {at_work[name]})" for name in names))


async def _answer(promise: Awaitable[Any]) -> Any:
    try:
        return await asyncio.wait_for(value_of(promise), _ANSWER_S)
    except (TimeoutError, PlaceLost):
        return _UNKNOWN
