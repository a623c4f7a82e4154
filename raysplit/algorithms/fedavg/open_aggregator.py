"""An aggregator whose rounds close before all owners have submitted.

Over-selection, deadline and quorum follow Bonawitz et al., "Towards Federated Learning at Scale" (2019,
arXiv 1902.01046). The mean is over the owners that submitted in time, their weights scaled to sum to 1. A late update
is dropped, or merged into the next mean with its original weight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from raysplit.actors.aggregator import Aggregator
from raysplit.actors.records import RoundContext, StaleCall, is_ahead
from raysplit.actors.verbs import AggregatorHandle
from raysplit.cluster.arriving.forms import refused
from raysplit.cluster.arriving.words import quoted, shown
from raysplit.cluster.contract import Promise, current_caller, original
from raysplit.schedulers.cohort import CohortRules, Gathering


class OpenAggregatorHandle(AggregatorHandle, Protocol):
    """The handle of an `OpenAggregator`."""

    def lose(self, context: RoundContext, owner: str) -> Promise[bool]: ...

    def closed(self, context: RoundContext) -> Promise[tuple[str, ...]]: ...


class OpenAggregator(Aggregator):
    """An aggregator that averages the updates that arrive in time.

    Args:
        cohort_rules: over-selection, deadline, quorum, and what becomes of late updates.
        cohort_size: the number of updates that a round wants; None wants all.
        arguments: those of `Aggregator`.
    """

    def __init__(self, *, cohort_rules: CohortRules, cohort_size: int | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._cohort_rules = cohort_rules
        self._cohort_size = cohort_size
        self._gathering = Gathering(cohort_rules, ())
        self._began_s = 0.0
        self._closed: asyncio.Future[tuple[str, ...]] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._updates: dict[str, Mapping[str, Tensor]] = {}
        self._late: dict[str, tuple[float, Mapping[str, Tensor]]] = {}
        self._weights: dict[str, float] = {}  # of each owner, in the latest round of which it was

    def begin(self, context: RoundContext) -> None:
        super().begin(context)
        self._weights.update(zip(context.cohort, context.weights, strict=True))
        loop = asyncio.get_running_loop()
        self._gathering = Gathering(self._cohort_rules, context.cohort, self._cohort_size)
        self._began_s = loop.time()
        self._closed = loop.create_future()
        if self._cohort_rules.round_deadline_s is not None:
            self._timer = loop.call_later(self._cohort_rules.round_deadline_s, self._look)

    def _abandon(self) -> None:
        super()._abandon()
        self._updates = {}
        if self._timer is not None:
            self._timer.cancel()
        if self._closed is not None and not self._closed.done():
            self._closed.cancel()

    async def submit(self, context: RoundContext, owner: str, *states: Mapping[str, Tensor], meeting: int = 0) -> None:
        """Submit an owner's state. A late one raises no error: it is dropped or merged by the rules."""
        caller = original(current_caller.get())
        if not isinstance(context, RoundContext):
            raise refused(caller, self.name, f"a call with {shown(context)} for its round", self._context)
        if caller != owner and caller in self._weights:
            raise refused(caller, self.name, f"an update in the name of {quoted(owner)}", context)
        now, closed = self._context, self._closed
        if owner not in self._weights:
            raise StaleCall(f"{self.name} has no round with {quoted(owner)}")
        if now is not None and is_ahead(context, now):
            raise refused(caller, self.name, "an update of a round that has not begun", now)
        update = self._joined(owner, context, states)
        self._rules.check(owner, context.round, update, self._current)
        if now is None or closed is None or context.attempt != now.attempt or context.round > now.round:
            raise StaleCall(f"{self.name} is not in round {context.round}, attempt {context.attempt}")
        if context.round < now.round or closed.done():
            if self._cohort_rules.late == "merge":
                self._late[owner] = self._weights[owner], {key: value.clone() for key, value in update.items()}
            return
        self._updates[owner] = update
        self._gathering.arrive(owner)
        self._look()

    def lose(self, context: RoundContext, owner: str) -> bool:
        """Stop waiting for an owner; return whether the others can still make a quorum."""
        self._check(context)
        self._gathering.lose(owner)
        self._look()
        return not self._gathering.is_hopeless

    async def closed(self, context: RoundContext) -> tuple[str, ...]:
        """Wait until the round closes; return the names of the owners that submitted in time, in owner order."""
        self._check(context)
        assert self._closed is not None
        return await asyncio.shield(self._closed)

    def absent(self) -> list[str]:
        cohort = self._context.cohort if self._context else ()
        return [name for name in cohort if name not in self._updates]

    async def state_dict(self) -> dict[str, Any]:
        return {**await super().state_dict(), "late": dict(self._late)}

    async def load_state_dict(self, state: Mapping[str, Any]) -> None:
        await super().load_state_dict(state)
        self._late = {owner: (weight, dict(update)) for owner, (weight, update) in state["late"].items()}

    def _look(self) -> None:
        elapsed_s = asyncio.get_running_loop().time() - self._began_s
        context, closed = self._context, self._closed
        if context is None or closed is None or closed.done() or not self._gathering.is_over(elapsed_s):
            return
        came = self._gathering.came
        late = sorted(owner for owner in self._late if owner not in came)
        weights = [*(context.weight(name) for name in came), *(self._late[name][0] for name in late)]
        updates = [*(self._updates[name] for name in came), *(self._late[name][1] for name in late)]
        numbers = [*(context.number(name) for name in came), *(0 for _ in late)]  # theirs are not in checkpoints
        self._current = self._rules.combine(updates, [weight / sum(weights) for weight in weights], numbers)
        self._late.clear()
        self._updates.clear()
        closed.set_result(came)
