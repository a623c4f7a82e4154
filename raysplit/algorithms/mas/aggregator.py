"""The aggregator of a group of tasks, which averages models and collects the affinities sent with them.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285: affinities travel with the updates. A new group inherits encoder and
decoders from the aggregator of an earlier one. The encoder is averaged over the whole cohort, and each task's decoder
over those of it that have the task; that of a task that nobody has stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from torch import Tensor

from raysplit.actors.aggregation import UpdateRules
from raysplit.actors.aggregator import Aggregator
from raysplit.actors.records import RoundContext
from raysplit.actors.verbs import AggregatorHandle, Weights
from raysplit.algorithms.mas.task_owners import measures
from raysplit.cluster.arriving.forms import Expected, refused
from raysplit.cluster.contract import Given, Promise
from raysplit.models.dense.net import decoder_state, encoder_state, group_state
from raysplit.models.dense.spec import MultiTaskSpec
from raysplit.schedulers.grouping.scores import Affinity


class GroupAggregatorHandle(AggregatorHandle, Protocol):
    """The handle of a `GroupAggregator`."""

    def submit_measured(
        self, context: RoundContext, owner: str, state: Given[Weights], affinity: Affinity
    ) -> Promise[None]: ...

    def affinities(self, context: RoundContext) -> Promise[dict[str, Affinity]]: ...

    def inherit(self, state: Given[Weights], *, encoder: bool, decoders: Sequence[str]) -> Promise[None]: ...

    def model_of(self, tasks: Sequence[str]) -> Promise[dict[str, Tensor]]: ...


class GroupAggregator(Aggregator):
    """An aggregator that starts with the initial weights of the group's model.

    Args:
        parts: the tasks of those owners that have some of the group's, but not all.
    """

    def __init__(
        self, *, name: str, spec: MultiTaskSpec, rules: UpdateRules, parts: Mapping[str, tuple[str, ...]] | None = None
    ) -> None:
        super().__init__(name=name, state=spec.build().state_dict(), rules=rules)
        self._affinities: dict[str, Affinity] = {}
        self._tasks = spec.tasks
        self._parts = dict(parts or {})

    def tasks_of(self, owner: str) -> tuple[str, ...]:
        """Return the tasks of the group that an owner has."""
        return self._parts.get(owner, self._tasks)

    def like(self, owner: str) -> Mapping[str, Tensor]:
        """Return those of the latest weights that an owner trains: the encoder, and the decoders of its tasks."""
        return group_state(self._current, self._parts[owner]) if owner in self._parts else super().like(owner)

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Expect weights like the latest average, or those of any group whose tasks it inherits."""
        found = super().expects(content, given)
        return found._replace(others=True, required=()) if "decoders" in given else found

    def begin(self, context: RoundContext) -> None:
        super().begin(context)
        self._affinities.clear()

    async def submit_measured(
        self, context: RoundContext, owner: str, state: Mapping[str, Tensor], affinity: Affinity
    ) -> None:
        """Submit an owner's weights together with the affinities that it measured in this round."""
        tasks = self.tasks_of(owner)
        if not isinstance(affinity, Affinity) or affinity.tasks != tasks:
            raise refused(owner, self.name, f"affinities of other tasks than {', '.join(tasks)}", context)
        await self.submit(context, owner, state)
        self._affinities[owner] = affinity

    async def affinities(self, context: RoundContext) -> dict[str, Affinity]:
        """Return the affinities that the cohort measured in this round, in owner order."""
        wanted = [owner for owner in context.cohort if measures(self.tasks_of(owner), self._tasks)]
        if missing := [owner for owner in wanted if owner not in self._affinities]:
            raise refused(missing[0], self.name, "an update without the affinities that it measures", context)
        return {owner: self._affinities[owner] for owner in wanted}

    def combine(self, context: RoundContext, submitted: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Average the encoder over the cohort, and each decoder over the owners that have its task."""
        if not any(owner in self._parts for owner in context.cohort):
            return super().combine(context, submitted)
        combined = self._combined(encoder_state, context, context.cohort, submitted)
        for task in self._tasks:
            having = [owner for owner in context.cohort if task in self.tasks_of(owner)]
            combined |= self._combined(partial(decoder_state, task=task), context, having, submitted)
        return {name: combined[name] for name in self._current}

    def _combined(
        self,
        part: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
        context: RoundContext,
        owners: Sequence[str],
        submitted: Mapping[str, Mapping[str, Tensor]],
    ) -> dict[str, Tensor]:
        """Combine a part of the models of some owners, whose weights are made to sum to 1; the latest without any."""
        if not owners:
            return part(self._current)
        weights = [context.weight(owner) for owner in owners]
        if len(owners) < len(context.cohort):
            total = sum(weights)
            weights = [weight / total for weight in weights]
        numbers = [context.number(owner) for owner in owners]
        return self._rules.combine([part(submitted[owner]) for owner in owners], weights, numbers)

    async def inherit(self, state: Mapping[str, Tensor], *, encoder: bool, decoders: Sequence[str]) -> None:
        """Load the encoder and these tasks' decoders from the state of another group's model."""
        taken = encoder_state(state) if encoder else {}
        for task in decoders:
            taken |= decoder_state(state, task)
        await self.load_weights({**self._current, **taken})

    async def model_of(self, tasks: Sequence[str]) -> dict[str, Tensor]:
        """Return the latest average, restricted to some of the group's tasks."""
        return group_state(self._current, tasks)
