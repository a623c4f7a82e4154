"""The aggregator of a group of tasks, which averages models and collects the affinities sent with them.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285: affinities travel with the updates. A new group inherits encoder and
decoders from the aggregator of an earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from torch import Tensor

from raysplit.actors.aggregation import UpdateRules
from raysplit.actors.aggregator import Aggregator
from raysplit.actors.records import RoundContext
from raysplit.actors.verbs import AggregatorHandle, Weights
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
    """An aggregator that starts with the initial weights of the group's model."""

    def __init__(self, *, name: str, spec: MultiTaskSpec, rules: UpdateRules) -> None:
        super().__init__(name=name, state=spec.build().state_dict(), rules=rules)
        self._affinities: dict[str, Affinity] = {}
        self._tasks = spec.tasks

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
        if not isinstance(affinity, Affinity) or affinity.tasks != self._tasks:
            raise refused(owner, self.name, f"affinities of other tasks than {', '.join(self._tasks)}", context)
        await self.submit(context, owner, state)
        self._affinities[owner] = affinity

    async def affinities(self, context: RoundContext) -> dict[str, Affinity]:
        """Return the affinities that the cohort measured in this round, in owner order."""
        return {owner: self._affinities[owner] for owner in context.cohort}

    async def inherit(self, state: Mapping[str, Tensor], *, encoder: bool, decoders: Sequence[str]) -> None:
        """Load the encoder and these tasks' decoders from the state of another group's model."""
        taken = encoder_state(state) if encoder else {}
        for task in decoders:
            taken |= decoder_state(state, task)
        await self.load_weights({**self._current, **taken})

    async def model_of(self, tasks: Sequence[str]) -> dict[str, Tensor]:
        """Return the latest average, restricted to some of the group's tasks."""
        return group_state(self._current, tasks)
