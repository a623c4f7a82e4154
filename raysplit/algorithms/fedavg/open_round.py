"""Rounds that end before all owners have finished, for methods whose owners work independently."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from raysplit.actors.records import BadValue, OwnerReport, RoundContext
from raysplit.actors.verbs import OwnerHandle
from raysplit.algorithms.fedavg.open_aggregator import OpenAggregatorHandle
from raysplit.cluster.contract import Promise, gather, original, value_of
from raysplit.schedulers.cohort import CohortRules


class OpenRounds:
    """The open rounds of a run: collects reports that are in time, and keeps track of owners that still train."""

    def __init__(self, rules: CohortRules) -> None:
        self._rules = rules
        self._at_work: dict[str, asyncio.Future[Any]] = {}

    def idle(self, owners: list[str]) -> list[str]:
        """Return the owners that no longer train for an earlier round."""
        return [name for name in owners if name not in self._at_work or self._at_work[name].done()]

    async def run(
        self,
        runs: Mapping[str, Promise[OwnerReport]],
        context: RoundContext,
        aggregator: OpenAggregatorHandle,
        handles: Mapping[str, OwnerHandle],
    ) -> tuple[OwnerReport, ...]:
        """Await the end of a round; return the reports of the owners whose updates are in the mean.

        The round continues without an owner that fails. If too few owners are left for a quorum, its error is raised.
        """
        waits = {name: asyncio.ensure_future(value_of(run)) for name, run in runs.items()}
        watched = [
            asyncio.ensure_future(_without_failed(aggregator, context, name, wait)) for name, wait in waits.items()
        ]
        closed = asyncio.ensure_future(value_of(aggregator.closed(context)))
        try:
            await _first_error(closed, watched)
            came = await closed
            reports = [await waits[name] for name in came]
        finally:
            for task_ in (closed, *watched):
                task_.cancel()
            await asyncio.wait([closed, *watched])
        await self._release_late(context, came, waits, handles)
        return tuple(reports)

    async def _release_late(
        self,
        context: RoundContext,
        came: tuple[str, ...],
        waits: Mapping[str, asyncio.Future[Any]],
        handles: Mapping[str, OwnerHandle],
    ) -> None:
        late = [name for name in context.cohort if name not in came and not waits[name].done()]
        if self._rules.late == "merge":
            self._at_work |= {name: waits[name] for name in late}  # their updates count in the next round
        else:
            await gather(*[handles[name].load_state_dict({}) for name in late])
            for name in late:
                waits[name].cancel()


async def _without_failed(
    aggregator: OpenAggregatorHandle, context: RoundContext, owner: str, wait: asyncio.Future[Any]
) -> None:
    """Raise an owner's error only if the round cannot continue without it."""
    await asyncio.wait([wait])
    if wait.cancelled() or (error := wait.exception()) is None:
        return
    if isinstance(error, BadValue) and original(error.sender) != owner:
        raise error  # the owner has got a bad value, and is not to blame for it
    if not await aggregator.lose(context, owner):
        wait.result()


async def _first_error(closed: asyncio.Future[Any], watched: Sequence[asyncio.Future[None]]) -> None:
    """Return when the round is closed, or raise the first error that prevents this."""
    waiting: set[asyncio.Future[Any]] = {closed, *watched}
    while not closed.done():
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            future.result()
