"""A compute node whose replicas are averaged at the aggregator, together with the owners' parts.

That is needed where replicas hold different parts, because owners have different cuts (Tirana, Lalis and Chatzopoulos,
"MP-SL", 2024, arXiv 2402.00208), and for rules that judge an owner's whole model, such as Krum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.parts.stage import PartRecipe, Stage
from raysplit.actors.records import RoundContext, StepId
from raysplit.actors.verbs import NodeHandle
from raysplit.cluster.contract import Promise


class RoutedNodeHandle(NodeHandle, Protocol):
    """The handle of a `RoutedNode`."""

    def replica_state(self, context: RoundContext, owner: str) -> Promise[dict[str, Tensor]]: ...


class RoutedNode(ComputeNode):
    """A compute node with a replica per owner, each of that owner's part.

    Args:
        recipes: the part that this node trains, by owner.
        rules: further arguments of `ComputeNode`.
    """

    def __init__(self, *, name: str, recipes: Mapping[str, PartRecipe], **rules: Any) -> None:
        super().__init__(name=name, recipe=next(iter(recipes.values())), **rules)
        self._recipes = recipes
        self._whole: dict[str, Tensor] | None = None

    def _recipe_of(self, owner: str) -> PartRecipe:
        return self._recipes.get(owner, self._recipe)

    async def replica_state(self, context: RoundContext, owner: str) -> dict[str, Tensor]:
        """Return the weights of the owner's replica after its last update in this round."""
        self._check_call(StepId(owner=owner, round=context.round, step=0, attempt=context.attempt))
        await self._updated(owner)
        self._trained.discard(owner)  # the next round begins from the aggregator's average
        return self._stage(owner).part.weights()

    async def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Set every replica, present and to come, from the weights of the whole model."""
        self._whole = {key: value.clone() for key, value in state.items()}
        self._trained.clear()
        for stage in self._stages.values():
            _load_own(stage, self._whole)

    def _stage(self, owner: str) -> Stage:
        if owner not in self._stages:
            self._spare.clear()  # it may hold another part
            stage = self._stages[owner] = self._recipes[owner].build(self._device)
            if self._whole is not None:
                _load_own(stage, self._whole)
            if self._context is not None:
                self._open(stage, self._context)
        return self._stages[owner]


def _load_own(stage: Stage, whole: Mapping[str, Tensor]) -> None:
    stage.load_weights({key: whole[key] for key in stage.part.module.state_dict() if key in whole})
