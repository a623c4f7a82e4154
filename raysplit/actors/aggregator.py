"""The aggregator: averages what the cohort submits and hands the average out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from raysplit.actors.aggregation import UpdateRules
from raysplit.actors.records import RoundContext, StaleCall


class Aggregator:
    """Weighted averaging (FedAvg, McMahan et al. 2017, arXiv 1602.05629), summed in owner order whatever arrives first.

    Args:
        state: the initial weights, handed out before the first average.
        rules: which updates are taken, and how they become one; by default their weighted mean.
    """

    def __init__(self, *, name: str, state: Mapping[str, Tensor], rules: UpdateRules | None = None) -> None:
        self.name = name
        self._rules = rules or UpdateRules()
        self._current = dict(state)
        self._context: RoundContext | None = None
        self._submitted: dict[int, dict[str, Mapping[str, Tensor]]] = {}
        self._means: dict[int, asyncio.Future[dict[str, Tensor]]] = {}

    def begin(self, context: RoundContext) -> None:
        """Open a round; submissions to any other are refused from now on."""
        self._abandon()
        self._context = context

    def _abandon(self) -> None:
        self._context = None
        self._submitted.clear()
        for mean in self._means.values():
            mean.cancel()
        self._means.clear()

    async def submit(self, context: RoundContext, owner: str, *states: Mapping[str, Tensor], meeting: int = 0) -> None:
        """Bring an owner's state to a meeting of the round (several when owners synchronise within it).

        It may come in several pieces, each from the party that holds it.
        """
        self._check(context)
        submitted = self._submitted.setdefault(meeting, {})
        if owner in submitted or owner not in context:
            raise StaleCall(f"{self.name} takes one state from each of {list(context.cohort)}, not again from {owner}")
        update = {key: value for state in states for key, value in state.items()}
        self._rules.check(owner, context.round, update, self._current)
        submitted[owner] = update
        if len(submitted) == len(context.cohort):
            self._current = self.combine(context, submitted)
            self._mean(meeting).set_result(self._current)
            del self._submitted[meeting]

    def combine(self, context: RoundContext, submitted: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The next weights, out of those that the cohort submitted; a subclass may do more than average."""
        return self._rules.combine([submitted[name] for name in context.cohort], context.weights)

    async def mean(self, context: RoundContext, *, meeting: int = 0) -> dict[str, Tensor]:
        """The average of a meeting, once everybody has come."""
        self._check(context)
        return await asyncio.shield(self._mean(meeting))

    async def current(self) -> dict[str, Tensor]:
        """The latest average."""
        return self._current

    async def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Hand these weights out until the next average."""
        self._current = {key: value.clone() for key, value in state.items()}

    async def state_dict(self) -> dict[str, Any]:
        """What this aggregator goes on from: the latest average."""
        return {"current": self._current}

    async def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give up what is under way and go on from a `state_dict`."""
        self._abandon()
        await self.load_weights(state["current"])

    def absent(self) -> list[str]:
        """The owners that others wait for here."""
        cohort = self._context.cohort if self._context else ()
        return [name for name in cohort if any(name not in came for came in self._submitted.values())]

    def _mean(self, meeting: int) -> asyncio.Future[dict[str, Tensor]]:
        if meeting not in self._means:
            self._means[meeting] = asyncio.get_running_loop().create_future()
        return self._means[meeting]

    def _check(self, context: RoundContext) -> None:
        now = self._context
        if now is None or (now.round, now.attempt) != (context.round, context.attempt):
            raise StaleCall(f"{self.name} is not in round {context.round}, attempt {context.attempt}")
