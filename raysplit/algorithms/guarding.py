"""What is refused of the guards of a run, once its model and its data are known, before any party is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from raysplit.actors.guarding.part import refuse_coupled, with_sample_gradients
from raysplit.models.classifier.spec import ClassifierSpec
from raysplit.models.dense.spec import MultiTaskSpec
from raysplit.models.spec import ModelSpec
from raysplit.tasks import SeveralTasks

if TYPE_CHECKING:
    from raysplit.algorithms.base import Algorithm


def check_guards(algorithm: Algorithm) -> None:
    """Raise ``ValueError`` for guards that the model, the data or the parties of a run do not fit."""
    setting, rules = algorithm.setting, algorithm.setting.privacy
    if not setting.is_guarded:
        return
    spec = setting.spec
    several = isinstance(spec, ClassifierSpec | MultiTaskSpec) or isinstance(setting.task, SeveralTasks)
    if rules.labels is not None and (several or setting.training.loss != "cross_entropy"):
        loss = "a loss for each of several targets" if several else f"the loss {_name(setting.training.loss)}"
        raise ValueError(
            f"privacy.labels flips class labels, of which a sample has one, and the run has {loss}; use cross_entropy "
            f"with one label, or leave privacy.labels out"
        )
    if rules.g is not None and rules.g.mechanism == "marvell" and (several or spec.num_classes != 2):
        raise ValueError(
            f"privacy.g: marvell hides which of two classes a row is of, and the data have {spec.num_classes}; use "
            f"max_norm or gaussian"
        )
    _check_parts(algorithm)


def _check_parts(algorithm: Algorithm) -> None:
    rules = algorithm.setting.privacy
    seen: set[tuple[ModelSpec, tuple[int | str, ...], int]] = set()
    for party in algorithm.parties():
        for i, recipe in enumerate(party.arguments.get("recipes", ()) if party.role == "owner" else ()):
            if (recipe.spec, recipe.cuts, recipe.index) in seen:
                continue
            seen.add((recipe.spec, recipe.cuts, recipe.index))
            module = recipe.spec.parts(recipe.cuts)[recipe.index]
            if rules.weights is not None or (rules.z is not None and i == 0):
                refuse_coupled(module)
            if rules.weights is not None:
                with_sample_gradients(module)


def _name(loss: object) -> str:
    return str(getattr(loss, "kind", loss))
