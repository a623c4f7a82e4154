"""Checks of the model before training: what its cuts send, whether its parts are the model, and what it returns."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Sequence
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.sent_inputs import recipes_of, refuse_sent_inputs
from raysplit.cluster.contract import PartySpec
from raysplit.data.inputs import UNNAMED, feed
from raysplit.models.adapters.lora import adapters_of
from raysplit.models.classifier.spec import ClassifierSpec
from raysplit.models.cutting.same_model import keeps_hidden_state
from raysplit.models.dense.spec import MultiTaskSpec
from raysplit.models.spec import ModelSpec
from raysplit.tasks import Task
from raysplit.training.fit import refuse_unfit
from raysplit.training.preflight import deployed_parties

logger = logging.getLogger(__name__)

NUM_ROWS = 2


def checked_parties(algorithm: Algorithm, spec: ModelSpec) -> list[PartySpec]:
    """Return the parties that a run deploys at its start, once the model ``spec``, the data and the cuts fit.

    Raises ``ValueError`` where they do not.
    """
    check_outputs(spec, algorithm.setting.task)
    check_groups(algorithm)
    if algorithm.setting.precision == "bf16" and algorithm.setting.device == "cpu":
        _say_slow_bf16()
    refuse_unfit(algorithm)
    parties = deployed_parties(algorithm)
    check_cuts(parties)
    return parties


@cache
def _say_slow_bf16() -> None:
    logger.warning(
        "model.precision is bf16, which halves what crosses behind linear layers; a processor without instructions for "
        "bfloat16 takes longer with it than without"
    )


def check_groups(algorithm: Algorithm) -> None:
    """Raise ``ValueError`` for a group of an optimizer that no trained weight belongs to."""
    setting = algorithm.setting
    groups = (*setting.optimizer.groups, *setting.server_optimizer.groups)
    if not groups:
        return
    names = [name for name, p in setting.spec.build().named_parameters() if p.requires_grad]
    for group in groups:
        if not any(fnmatchcase(name, group.match) for name in names):
            raise ValueError(
                f"the group {group.match!r} of training.optimizer.groups fits no weight that is trained; their names "
                f"are {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
            )


def check_cuts(parties: Sequence[PartySpec]) -> None:
    """Raise ``ValueError`` for cuts at which inputs leave their owners, or where parts learn something else."""
    recipes = [recipe for party in parties for recipe in recipes_of(party) if recipe.cuts]
    for spec, cuts in dict.fromkeys((recipe.spec, recipe.cuts) for recipe in recipes):
        spec.parts(cuts)  # before anything is started, also where no party has needed them yet
    refuse_sent_inputs(parties)
    for spec in dict.fromkeys(recipe.spec for recipe in recipes):
        spec.check_cuttable()


def check_outputs(spec: ModelSpec, task: Task | None = None) -> None:
    """Raise ``ValueError`` for a model that fails on the inputs, or returns no tensor with a row per sample.

    A task takes the answer out of several outputs.
    """
    if isinstance(spec, ClassifierSpec | MultiTaskSpec):
        return  # whose heads are made for the tasks
    outputs = _outputs(spec)
    if task is not None:
        found = task.answered(outputs)
        outputs = found if isinstance(found, Tensor) else next(iter(found.values()))
    if not isinstance(outputs, Tensor):
        raise ValueError(
            f"the model {spec.name!r} returns a {type(outputs).__name__}{_content(outputs)}, and training takes one "
            f"tensor with a row per sample; let its forward return the logits alone, wrap it in a module that does, or "
            f"set a task, which takes the entry 'logits' or 'out'"
        )
    if not outputs.ndim or len(outputs) != NUM_ROWS:
        raise ValueError(
            f"the model {spec.name!r} returns a tensor of shape {tuple(outputs.shape)} for {NUM_ROWS} samples; its "
            f"first dimension must be the batch"
        )
    if not (outputs.is_floating_point() or outputs.is_complex()):
        kind = str(outputs.dtype).removeprefix("torch.")
        raise ValueError(
            f"the model {spec.name!r} returns {kind} numbers, which have no gradient; let its forward return the "
            f"logits, before any comparison, rounding or argmax"
        )
    _say_hidden_state(spec)


@lru_cache(maxsize=64)
def _say_hidden_state(spec: ModelSpec) -> None:
    """Warn, once in a process, of a model whose passes change the next ones by more than weights and buffers."""
    if keeps_hidden_state(spec.build(), spec.example(NUM_ROWS)):
        logger.warning(
            "the model %r keeps something between batches that is neither a weight nor a buffer, such as a counter or "
            "a random generator of its own: a run that is resumed gets other weights; keep numbers in buffers, and "
            "draw from torch's own stream, which is seeded for every step",
            spec.name,
        )


def _outputs(spec: ModelSpec) -> Any:
    model, called = spec.build().eval(), set[str]()
    adapters = adapters_of(model)
    for path, layer in adapters.items():
        layer.register_forward_hook(lambda *_, path=path: called.add(path))
    try:
        with torch.no_grad():
            outputs = feed(model, spec.example(NUM_ROWS))
    except Exception as error:  # code of the user may raise anything
        shapes = ", ".join(f"{name} {list(entry.shape)}" for name, entry in dict(spec.inputs).items())
        raise ValueError(
            f"the model {spec.name!r} fails on {NUM_ROWS} samples of the inputs {shapes}: {type(error).__name__}: "
            f"{error}{_takes(model, dict(spec.inputs))}"
        ) from error
    if idle := [path for path in adapters if path not in called]:
        raise ValueError(
            f"the model {spec.name!r} never calls {idle[0]!r}, so that its adapter would be without effect; name other "
            f"layers in model.lora.targets"
        )
    return outputs


def _takes(model: nn.Module, inputs: Collection[str]) -> str:
    """Say what a model takes that has no parameter of the name of an input."""
    parameters = inspect.signature(type(model).forward).parameters.values()
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)][1:]
    strange = [name for name in inputs if name not in (UNNAMED, *named)]
    if not strange:
        return ""
    return f"; its forward has no {strange[0]!r} and takes {', '.join(named[:6])}, so give a model for these inputs"


def _content(outputs: Any) -> str:
    if isinstance(outputs, dict):
        return f" of {', '.join(map(repr, outputs))}"
    return f" of {len(outputs)}" if isinstance(outputs, tuple | list) else ""
