"""Refuse cuts at which the samples themselves would leave their owners.

Split learning (Gupta, Raskar, 2018, arXiv 1810.06060) keeps raw data at their owners because they pass through the
first layers there. A cut in front of all weights, or beside a shortcut that carries the input to a later layer, sends
the samples themselves, or a view, a slice or a multiple of them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from raysplit.actors.parts.stage import PartRecipe
from raysplit.algorithms.deployment import Deployment
from raysplit.algorithms.setting import AUTO
from raysplit.cluster.contract import PartySpec

logger = logging.getLogger(__name__)


def refuse_sent_inputs(parties: Iterable[PartySpec]) -> None:
    """Raise ``ValueError`` where a party other than an owner would get inputs that no weight has changed."""
    for party in parties:
        if party.role in ("owner", "evaluator"):
            continue
        for recipe in {(recipe.spec, recipe.cuts, recipe.index): recipe for recipe in recipes_of(party)}.values():
            _refuse(party.name, recipe)


def log_placed_cuts(algorithm: Deployment) -> None:
    """Log where ``cut: auto`` has placed a cut, if it is not after the first unit."""
    for asked, cut in zip(algorithm.cuts, algorithm.placed_cuts, strict=True):
        if asked == AUTO and cut not in (0, 1):
            logger.warning("a cut after unit 1 would send raw inputs, so cut: auto places it after unit %s", cut)


def _refuse(party: str, recipe: PartRecipe) -> None:
    if recipe.index == 0 and recipe.spec.private_inputs:
        raise ValueError(
            f"{party} holds the first part of the model, which takes the owners' samples as they are; give it a later "
            f"part, or allow it by name with model.send_inputs"
        )
    if recipe.index > 0:
        cut = recipe.cuts[recipe.index - 1]
        if sent := recipe.spec.sent_inputs(cut):
            raise ValueError(f"the cut {cut!r} would send raw inputs to {party}: {_why(sent)}; {_way_out(recipe)}")


def _why(sent: tuple[str, ...]) -> str:
    return f"{', '.join(map(repr, sent))} would cross it, and no weight has changed the values"


def _way_out(recipe: PartRecipe) -> str:
    first = recipe.spec.first_private_cut()
    named = "or allow it by name with model.send_inputs (raysplit cuts lists all places)"
    if first is None:
        return f"no cut of this model keeps the inputs at their owner; choose a method that does not cut it, {named}"
    return f"cut after unit {first} or later, {named}"


def recipes_of(party: PartySpec) -> Iterator[PartRecipe]:
    """Return the recipes of the parts that a party trains."""
    given: Any = party.arguments.get("recipes", party.arguments.get("recipe", ()))
    if isinstance(given, PartRecipe):
        yield given
    else:
        yield from given.values() if isinstance(given, Mapping) else given
