"""What an owner and a compute node say that they expect; see `raysplit.cluster.arriving.forms.Expecting`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from raysplit.actors.expecting.forms import (
    batch_rows,
    behind,
    classes_of,
    crossing,
    num_rows,
    of_node,
    of_owner,
    of_rows,
    returns,
    rows_of_labels,
    sign_of,
    whole_model,
)
from raysplit.actors.parts.gradient_record import ReceivedGradient, ReceivedGradients
from raysplit.actors.parts.losses import Loss
from raysplit.actors.parts.stage import PartRecipe, Stage
from raysplit.cluster.arriving.forms import ANYTHING, Expected

SHARED = "all owners"
"""The key of a part that all owners share."""


class _OfGradients(NamedTuple):
    """Whether gradients of a part's outputs are sent, and the loss that is never negative: looked up once."""

    recipe: PartRecipe
    are_sent: bool
    loss: str


class ExpectsAtOwner(ABC):
    """The half of a `DataOwner` that says what it expects, and notes what came in a round."""

    _recipes: tuple[PartRecipe, ...]
    _loss: Loss
    _received: ReceivedGradients
    _told_by: set[str]
    _known: _OfGradients | None = None

    @property
    @abstractmethod
    def _stages(self) -> list[Stage]:
        """The parts of the owner."""

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Return what is expected of a value that another party sends."""
        if content == "weights" and "states" in given:  # a whole model to evaluate
            return whole_model(self._recipes[0].spec, len(given["states"]))
        note, told = self._received.note, self._told_by.add
        if "gradients" not in content:  # no parts are built or unpacked for the other checks
            return of_owner(content, self._recipes, self._loss)._replace(told=told)
        known = self._known
        if known is None or known.recipe is not self._recipes[0]:
            known = self._known = _OfGradients(self._recipes[0], returns(self._recipes[0]), sign_of(self._loss))
        if not known.are_sent:
            return Expected(tensors=(), loss=known.loss, told=told)
        outputs = self._stages[0].part.outputs
        if not outputs:
            return Expected(tensors=behind(known.recipe), rows=batch_rows(), loss=known.loss, tell=note, told=told)
        return Expected(tensors=outputs, loss=known.loss, tell=note, told=told)

    def largest_gradient(self) -> ReceivedGradient | None:
        """Return the one gradient of the round that was out of all proportion, if another party sent one."""
        return self._received.out_of_proportion()


class _OfStep:
    """What arrives at a part in a step: looked up once for a recipe, and once for batches of a size."""

    def __init__(self, recipe: PartRecipe, loss: Loss) -> None:
        self.recipe = recipe
        self._forms = crossing(recipe)
        self._is_by_row = self._forms[:1] != () and self._forms[0].shape[:1] == (-1,)
        self._num_classes = classes_of(recipe, loss)
        self._smashed = self._labels = ANYTHING

    def smashed(self, y: Any) -> Expected:
        """Expect smashed data beside these labels, as the part takes it."""
        rows, found = rows_of_labels(y), self._smashed
        if found is ANYTHING or found.rows != rows:
            forms = of_rows(self._forms, rows)
            found = self._smashed = Expected(tensors=forms, rows=rows, most_rows=self.recipe.most_rows)
        return found

    def labels(self, z: Any) -> Expected:
        """Expect labels beside this smashed data."""
        rows = z.shape[0] if self._is_by_row and type(z) is Tensor and z.ndim else num_rows(z, self._forms)
        found = self._labels
        if found is ANYTHING or found.rows != rows:
            found = self._labels = Expected(rows=rows, num_classes=self._num_classes)
        return found


class ExpectsAtNode:
    """The half of a `ComputeNode` that says what it expects."""

    _recipe: PartRecipe
    _copies: str
    _stages: dict[str, Stage]
    _loss: Loss
    _known: _OfStep | None = None

    def _recipe_of(self, owner: str) -> PartRecipe:
        return self._recipe

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Return what is expected of a value that another party sends."""
        owner = getattr(given.get("step_id"), "owner", "")
        recipe = self._recipe_of(owner)
        if content != "smashed" and content != "labels":
            return of_node(content, recipe, self._stages.get(SHARED if self._copies == "shared" else owner))
        known = self._known
        if known is None or known.recipe is not recipe:
            known = self._known = _OfStep(recipe, self._loss)
        return known.smashed(given.get("y")) if content == "smashed" else known.labels(given.get("z"))
