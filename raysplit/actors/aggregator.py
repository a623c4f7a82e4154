"""The aggregator: averages the weights that the cohort submits, and returns the average."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

from raysplit.actors.aggregation import UpdateRules, weighted_mean
from raysplit.actors.records import RoundContext, StaleCall, is_ahead
from raysplit.cluster.arriving.forms import ANYTHING, SENDER, Expected, NonFiniteValue, not_finite, refused
from raysplit.cluster.arriving.words import quoted, shown
from raysplit.cluster.contract import current_caller, original
from raysplit.cluster.sums.tree import Node
from raysplit.models.adapters.gap import Terms, gap_terms


class Aggregator:
    """Weighted averaging (FedAvg, McMahan et al. 2017, arXiv 1602.05629), independent of the order of arrival.

    A subclass overrides `combine` to compute the next weights differently; a method names it as `aggregator_type`.

    Args:
        name: the name of the party.
        state: the initial weights by name, which `current` returns before the first average.
        rules: rules that refuse updates and combine the others; by default their weighted mean.
        pieces: names of the weights that parties other than the owner submit for it, by owner and party.
    """

    def __init__(
        self,
        *,
        name: str,
        state: Mapping[str, Tensor],
        rules: UpdateRules | None = None,
        pieces: Mapping[str, Mapping[str, Collection[str]]] | None = None,
    ) -> None:
        self.name = name
        self._pieces = pieces or {}
        self._rules = rules or UpdateRules()
        self._current = dict(state)
        self._context: RoundContext | None = None
        self._lora_gap: Terms | None = None
        self._submitted: dict[int, dict[str, Mapping[str, Tensor]]] = {}
        self._of_nodes: dict[Node, Mapping[str, Tensor]] = {}
        self._summed: dict[str, Node] = {}  # owners whose updates are in sums
        self._means: dict[int, asyncio.Future[dict[str, Tensor]]] = {}

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Expect weights like the latest average; a piece of an update has all that its party holds."""
        if content != "weights":
            return ANYTHING
        owner, sender = given.get("owner"), given.get(SENDER, "")
        pieces = self._pieces.get(owner, {}) if isinstance(owner, str) else {}
        whole = self.like(owner) if isinstance(owner, str) else self._current
        required = whole if "state" in given else pieces.get(sender, ())
        summed = self._context is not None and self._context.adds_up and "states" in given
        return Expected(weights=self._current, required=required, summed=summed)

    def like(self, owner: str) -> Mapping[str, Tensor]:
        """Return the weights that an owner's update is like: all of the latest average. A subclass may take fewer."""
        return self._current

    def begin(self, context: RoundContext) -> None:
        """Begin a round; from now on submissions to any other raise `StaleCall`."""
        self._abandon()
        self._context = context

    def _abandon(self) -> None:
        self._context = None
        self._submitted.clear()
        self._of_nodes.clear()
        self._summed.clear()
        for mean in self._means.values():
            mean.cancel()
        self._means.clear()

    async def submit(self, context: RoundContext, owner: str, *states: Mapping[str, Tensor], meeting: int = 0) -> None:
        """Submit an owner's weights for an average of the round.

        Args:
            context: the instruction of the present round.
            owner: the name of an owner of its cohort.
            states: weights by name; several pieces are joined, each from the party that holds it.
            meeting: the number of the average, for rounds with several.

        Raises:
            StaleCall: for another round, an owner outside the cohort, or a second submission.
            UpdateRefused: for weights that the rules refuse.
        """
        context = self._check(context, owner or "")
        submitted = self._submitted.setdefault(meeting, {})
        if owner in submitted and original(current_caller.get()) == owner:
            raise refused(owner, self.name, "a second update", context)
        if owner in submitted or owner not in context:
            raise StaleCall(
                f"{self.name} takes one state from each of {list(context.cohort)}, and refuses this one from {owner}: "
                f"it is its second, or {owner} is not in the cohort"
            )
        update = self._joined(owner, context, states)
        if not context.adds_up or update.keys() != self._current.keys():  # else the link has looked at its form
            self._rules.check(owner, context.round, update, self.like(owner))
        submitted[owner] = update
        self._combine_if_all(context, meeting)

    async def submit_sum(self, context: RoundContext, node: Node, total: Mapping[str, Tensor]) -> None:
        """Submit the weighted sum of the weights of all owners of a node, in a round whose updates add up.

        Args:
            context: the instruction of the present round.
            node: the owners of the cohort that are in the sum.
            total: the sum, in double precision (`raysplit.cluster.sums.tree.weighted_sum`).
        """
        context = self._check(context)
        owners = [name for name in context.cohort if node.has(context.number(name))]
        submitted = self._submitted.setdefault(0, {})
        if not context.adds_up or not owners or any(name in submitted or name in self._summed for name in owners):
            raise StaleCall(f"{self.name} takes no sum of the updates of {owners} in round {context.round}")
        wide = {key: value.double() if value.is_floating_point() else value for key, value in self._current.items()}
        self._rules.check(owners[0], context.round, total, wide)
        narrow = {key: value.to(self._current[key].dtype) for key, value in total.items()}
        self._rules.check(owners[0], context.round, narrow, self._current)  # 1e300 is finite, and no weight
        self._of_nodes[node] = total
        self._summed.update(dict.fromkeys(owners, node))
        self._combine_if_all(context, 0)

    def _combine_if_all(self, context: RoundContext, meeting: int) -> None:
        """Combine the updates of an average once those of the whole cohort are here."""
        submitted, summed = self._submitted[meeting], self._summed if meeting == 0 else {}
        if len(submitted) + len(summed) < len(context.cohort):
            return
        if summed:
            states = [submitted.get(name) for name in context.cohort]
            numbers = [context.number(name) for name in context.cohort]
            mean = weighted_mean(states, context.weights, numbers, sums=self._of_nodes, like=self._current)
            self._of_nodes, self._summed = {}, {}
        else:
            mean = self.combine(context, submitted)
            cohort = [submitted[name] for name in context.cohort]
            self._lora_gap = gap_terms(cohort, context.weights, mean)
        if context.adds_up:
            self._require_finite(context, submitted, mean)
        self._current = mean
        self._mean(meeting).set_result(mean)
        del self._submitted[meeting]

    def _require_finite(
        self, context: RoundContext, submitted: Mapping[str, Mapping[str, Tensor]], mean: Mapping[str, Tensor]
    ) -> None:
        """Name the owner of an update whose numbers are not finite; then those of the mean are not."""
        if not any(value.is_floating_point() and not_finite(value) for value in mean.values()):
            return
        for owner, update in submitted.items():
            for name, value in update.items():
                if kind := not_finite(value):
                    what = f"weights with {kind} in {quoted(name)}"
                    raise refused(owner, self.name, what, context, kind=NonFiniteValue)

    def combine(self, context: RoundContext, submitted: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Compute the next weights from those that the cohort submitted, by owner. A subclass may override it."""
        return self._rules.combine([submitted[name] for name in context.cohort], context.weights, context.numbers)

    async def mean(self, context: RoundContext, *, meeting: int = 0) -> dict[str, Tensor]:
        """Wait until the whole cohort has submitted, and return the average by name of weight."""
        self._check(context)
        return await asyncio.shield(self._mean(meeting))

    async def current(self) -> dict[str, Tensor]:
        """Return the latest average by name of weight, or the initial weights."""
        return self._current

    def lora_gap(self) -> Terms | None:
        """Return what the latest average lost by averaging the factors of adapters; None without adapters."""
        return self._lora_gap

    async def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Set the weights that `current` returns until the next average."""
        self._current = {key: value.clone() for key, value in state.items()}

    async def state_dict(self) -> dict[str, Any]:
        """Return the state to resume from: the latest average. A subclass adds entries of its own."""
        return {"current": self._current}

    async def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Abort the present round and restore a `state_dict`."""
        self._abandon()
        await self.load_weights(state["current"])

    def absent(self) -> list[str]:
        """Names of the owners for which others wait here."""
        cohort = self._context.cohort if self._context else ()
        summed = self._summed
        return [
            name for name in cohort if any(name not in came and name not in summed for came in self._submitted.values())
        ]

    def _mean(self, meeting: int) -> asyncio.Future[dict[str, Tensor]]:
        if meeting not in self._means:
            self._means[meeting] = asyncio.get_running_loop().create_future()
        return self._means[meeting]

    def _joined(self, owner: str, context: RoundContext, states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Join the pieces of an update; those of other parties are whole, but an owner may withhold one."""
        update = {key: value for state in states for key, value in state.items()}
        for party, names in self._pieces.get(owner, {}).items():
            if missing := [name for name in names if name not in update]:
                raise refused(owner, self.name, f"weights without {min(missing)!r}, which {party} holds", context)
        return update

    def _check(self, context: RoundContext, owner: str | None = None) -> RoundContext:
        """Return the present context, which counts instead of the caller's; an owner speaks for itself alone."""
        now, caller = self._context, original(current_caller.get())
        if not isinstance(context, RoundContext):
            raise refused(caller, self.name, f"a call with {shown(context)} for its round", now)
        if now is not None and caller in now and is_ahead(context, now):
            raise refused(caller, self.name, "a call of a round that has not begun", now)
        if now is None or (now.round, now.attempt) != (context.round, context.attempt):
            raise StaleCall(
                f"{self.name} is not in round {context.round}, attempt {context.attempt}; call begin with the round's "
                f"context first"
            )
        if owner is not None and caller != owner and caller in now:
            raise refused(caller, self.name, f"an update in the name of {quoted(owner)}", context)
        return now
