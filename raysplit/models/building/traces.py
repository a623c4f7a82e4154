"""Traced models of specifications, and the front end that each takes, found once per process.

All of them are cached: never write to them.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from torch import nn

from raysplit.data.inputs import Inputs, Values, kept_back, longer_example
from raysplit.models.building.prototypes import DTYPES, check_outline, filled_from, outline, outlined, prototype
from raysplit.models.crossing import raw_inputs
from raysplit.models.cutting.randomness import may_draw
from raysplit.models.cutting.split import FrontEnd, Units, check_traced, front_ends, no_front_end, traced_model
from raysplit.models.cutting.tracing import CannotCut
from raysplit.models.exporting.blocks import BLOCK_SOURCES
from raysplit.models.limits import within_positions
from raysplit.models.traced_model import TracedModel, train_alike
from raysplit.seeding import torch_generator

if TYPE_CHECKING:
    from raysplit.models.spec import ModelSpec

logger = logging.getLogger(__name__)

EXPORTS: tuple[FrontEnd, ...] = ("export", "export_cpu")
"""The front ends by torch.export."""


@lru_cache(maxsize=4)
def sent_inputs(spec: ModelSpec) -> list[tuple[str, ...]]:
    """Name, for each position, the values that a cut there would send although they hold private inputs."""
    return raw_inputs.sent_inputs(traced(spec), spec.example_inputs(), DTYPES[spec.dtype])


@lru_cache(maxsize=64)
def check(spec: ModelSpec, front_end: str | None) -> None:
    """Raise `CannotCut` unless the parts of a model compute and learn what it does, and are read as it is."""
    found = traced(spec) if front_end is None else _traced_by(spec, front_end)
    example = spec.example(generator=torch_generator(spec.seed, "model", "example"))
    check_traced(prototype(spec), found, example, _longer(spec))
    check_outline(spec)


@lru_cache(maxsize=64)
def chosen(spec: ModelSpec) -> FrontEnd | None:
    """Return the first front end whose parts compute and learn what the model does, or None."""
    names = front_ends(spec.front_end)
    if spec.front_end == "auto":
        names = (*names, "export_cpu")
    for name in names:
        try:
            check(spec, name)
        except CannotCut as reason:
            logger.info("front end %s: %s", name, reason)
        else:
            return name
    return None


@lru_cache(maxsize=64)
def whole_by_graph(spec: ModelSpec) -> bool:
    """Whether the whole model is its graph: where dropout calls of ``forward`` get streams of their own, which modules
    alone do not have, or the graph has another order of weights, in which optimizers keep their states."""
    if spec.front_end in (*EXPORTS, "chain"):
        return True
    try:
        (graph,), model = _traced_by(spec, "fx").cut([]), spec._whole()
        if train_alike(graph, model):
            return False
        check(spec, "fx")
    except CannotCut as reason:
        if spec.front_end == "auto" and may_draw(spec._whole()) and chosen(spec) in EXPORTS:
            return True
        logger.info("the model is trained as it is written, since it cannot be cut: %s", reason)
        return False
    return True


def _longer(spec: ModelSpec) -> Values | None:
    drawn = torch_generator(spec.seed, "model", "longer example")
    return longer_example(spec.example_inputs(), DTYPES[spec.dtype], drawn)


@lru_cache(maxsize=64)
def example_inputs(spec: ModelSpec) -> Inputs:
    """Return the records of the inputs with the longest samples that the model says it takes."""
    inputs = dict(spec.inputs)
    is_ragged = any(entry.ragged for entry in inputs.values())
    return tuple((within_positions(inputs, spec.outlined()) if is_ragged else inputs).items())


def traced(spec: ModelSpec) -> TracedModel:
    """Return the traced model by its front end; for ``auto`` by the first that can trace it."""
    reasons: list[tuple[str, CannotCut]] = []
    for name in front_ends(spec.front_end):
        try:
            return _traced_by(spec, name)
        except CannotCut as reason:
            reasons.append((name, reason))
    raise reasons[0][1] if len(reasons) == 1 else no_front_end(spec.name, reasons) from reasons[0][1]


@lru_cache(maxsize=4)
def _traced_by(spec: ModelSpec, front_end: str) -> TracedModel:
    if outline(spec) is None:
        return _trace(spec, prototype(spec), front_end)
    found = outline_traced(spec).copy()
    filled_from(found.root, prototype(spec))
    return found


@lru_cache(maxsize=4)
def outline_traced(spec: ModelSpec) -> TracedModel:
    """Return the traced outline of a model that has one."""
    return _trace(spec, outlined(spec), "export")


def _trace(spec: ModelSpec, model: nn.Module, front_end: str) -> TracedModel:
    inputs, example = dict(spec.inputs), spec.example(generator=torch_generator(spec.seed, "model", "example"))
    side = [name for name, entry in inputs.items() if entry.role == "side"]
    rules: dict[str, Any] = {"kept_back": kept_back(inputs), "side": side, "ends": spec.ends, "front_end": front_end}
    units: Units = "blocks" if spec.name.startswith(BLOCK_SOURCES) else "children"
    return traced_model(model, example, longer=_longer(spec), units=units, **rules)
