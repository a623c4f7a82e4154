"""What an owner and a compute node say that they expect; see `raysplit.cluster.arriving.forms.Expecting`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from raysplit.actors.expecting.forms import of_node, of_owner, whole_model
from raysplit.actors.parts.gradient_record import ReceivedGradient, ReceivedGradients
from raysplit.actors.parts.stage import PartRecipe, Stage
from raysplit.cluster.arriving.forms import Expected

if TYPE_CHECKING:
    from raysplit.data.batches import LocalTraining


SHARED = "all owners"
"""The key of a part that all owners share."""


class ExpectsAtOwner:
    """The half of a `DataOwner` that says what it expects, and notes what came in a round."""

    _recipes: tuple[PartRecipe, ...]
    _training: LocalTraining
    _received: ReceivedGradients
    _told_by: set[str]

    @property
    def _stages(self) -> list[Stage]:
        raise NotImplementedError

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Return what is expected of a value that another party sends."""
        if content == "weights" and "states" in given:  # a whole model to evaluate
            return whole_model(self._recipes[0].spec, len(given["states"]))
        expected = of_owner(content, self._stages, self._recipes, self._training.loss)
        return expected._replace(tell=self._received.note, told=self._told_by.add)

    def largest_gradient(self) -> ReceivedGradient | None:
        """Return the one gradient of the round that was out of all proportion, if another party sent one."""
        return self._received.out_of_proportion()


class ExpectsAtNode:
    """The half of a `ComputeNode` that says what it expects."""

    _recipe: PartRecipe
    _copies: str
    _stages: dict[str, Stage]
    _loss_name: Any

    def _recipe_of(self, owner: str) -> PartRecipe:
        return self._recipe

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Return what is expected of a value that another party sends."""
        owner = getattr(given.get("step_id"), "owner", "")
        stage = self._stages.get(SHARED if self._copies == "shared" else owner)
        return of_node(content, self._recipe_of(owner), stage, self._loss_name, given)
