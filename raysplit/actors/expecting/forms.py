"""The form of what the parties of a cut model expect from one another, derived from its specification.

The tensors that cross a cut are found by two examples without real samples, of two and of three rows: sizes that differ
depend on the batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.actors.parts.leaves import as_tuple
from raysplit.actors.parts.losses import LOSSES, Loss, cross_entropy
from raysplit.actors.parts.stage import PartRecipe, Stage, is_trained_before
from raysplit.cluster.arriving.forms import ANY, Expected, Form
from raysplit.cluster.contract import current_samples
from raysplit.data.inputs import example_length, feed
from raysplit.models.building.prototypes import filled_with_zeros, infinite_names, state_forms
from raysplit.models.classifier.spec import ClassifierSpec
from raysplit.models.cutting.merging import other_names
from raysplit.models.frozen import trained_state
from raysplit.models.spec import ModelSpec
from raysplit.seeding import derive, keyed_draws

_NEVER_NEGATIVE = [(name, LOSSES[name]) for name in ("cross_entropy", "mse")]
_ROWS = (2, 3)


def crossing(recipe: PartRecipe) -> tuple[Form, ...]:
    """Return the forms of the tensors that a part receives from the part before it."""
    spec = recipe.spec
    cut = 0 if isinstance(spec, ClassifierSpec) else recipe.cuts[recipe.index - 1]
    in_bf16 = recipe.rules.precision == "bf16"  # which operators return it differs between kinds of devices
    return _crossing(spec, cut, torch.device(recipe.device).type if in_bf16 else "cpu", in_bf16)


@lru_cache(maxsize=64)
def _crossing(spec: ModelSpec, cut: int | str, device: str, in_bf16: bool) -> tuple[Form, ...]:
    before = filled_with_zeros(spec.part_outlines((cut,))[0]).eval().to(device)
    inputs = spec.example_inputs()
    length = example_length(inputs)
    is_ragged = any(entry.ragged for entry in inputs.values())
    with torch.autocast(device, dtype=torch.bfloat16, enabled=in_bf16):
        one, other = (_outputs(before, spec, rows, length, device) for rows in _ROWS)
        shorter = _outputs(before, spec, _ROWS[0], max(1, length * 2 // 3), device) if is_ragged else one
    return tuple(
        Form(_shape(a.shape, b.shape, c.shape), a.dtype, may_be_infinite=bool(torch.isinf(a).any()))
        for a, b, c in zip(one, other, shorter, strict=True)
    )


def _outputs(module: nn.Module, spec: ModelSpec, rows: int, length: int, device: str) -> tuple[Tensor, ...]:
    with torch.no_grad(), keyed_draws(derive(spec.seed, "crossing")):
        return as_tuple(feed(module, spec.cast(spec.example(rows, lengths=[length] * rows), device)))


def _shape(one: Iterable[int], other: Iterable[int], shorter: Iterable[int]) -> tuple[int, ...]:
    """Return the sizes that are the same in all examples; those that grow with the rows as a negative factor."""
    sizes = []
    for a, b, c in zip(one, other, shorter, strict=True):
        by_row, rest = divmod(a, _ROWS[0])
        depends = not rest and by_row * _ROWS[1] == b
        sizes.append(ANY if a != c else a if a == b else -by_row if depends else ANY)
    return tuple(sizes)


@lru_cache(maxsize=64)
def weights_of(spec: ModelSpec) -> Mapping[str, Form]:
    """Return the forms of all weights and buffers of a model, by the names under which parties send them."""
    infinite = infinite_names(spec)
    return {
        name: Form(tuple(value.shape), value.dtype, may_be_infinite=name in infinite)
        for name, value in state_forms(spec).items()
    }


@lru_cache(maxsize=64)
def infinite_in(spec: ModelSpec) -> frozenset[str]:
    """Return the names of the weights and buffers that are infinite from the start, such as those of a mask."""
    return frozenset(name for name, form in weights_of(spec).items() if form.may_be_infinite)


@lru_cache(maxsize=64)
def _trained(spec: ModelSpec, cuts: tuple[int | str, ...], index: int) -> frozenset[str]:
    return frozenset(trained_state(spec.part_outlines(cuts)[index]))


def trained_names(*recipes: PartRecipe) -> frozenset[str]:
    """Return the names of the weights and buffers of these parts that parties send."""
    return frozenset().union(*[_trained(recipe.spec, recipe.cuts, recipe.index) for recipe in recipes])


def model_weights(spec: ModelSpec, required: Collection[str] = ()) -> Expected:
    """Expect weights of a model, among them the required ones."""
    return Expected(weights=weights_of(spec), required=required, infinite=infinite_in(spec))


def whole_model(spec: ModelSpec, num_states: int) -> Expected:
    """Expect the weights of a whole model in so many states, each with a part of them."""
    if num_states != 1:
        return model_weights(spec)
    return model_weights(spec, weights_of(spec).keys() - spec.fixed_keys() - tied_names(spec).keys())


@lru_cache(maxsize=64)
def tied_names(spec: ModelSpec) -> Mapping[str, str]:
    """Return the further names of tied weights, under which parties need not send them, each with the first name."""
    return other_names(spec.outlined())


def whole_state(spec: ModelSpec, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what parties have sent of a model with what they need not send: frozen weights, and tied ones by name."""
    whole = {**spec.fixed_state(), **state}
    return whole | {name: whole[first] for name, first in tied_names(spec).items() if name not in whole}


def part_weights(*recipes: PartRecipe) -> Expected:
    """Expect the weights of these parts of a model, with others of the same model or without."""
    return model_weights(recipes[0].spec, trained_names(*recipes))


def of_owner(content: str, recipes: Sequence[PartRecipe], loss: Loss) -> Expected:
    """Return what an owner expects beside gradients: smashed data as its last part takes, weights, losses.

    Args:
        content: what the value is.
        recipes: the parts that the owner holds.
        loss: the mean loss of a batch.
    """
    if content == "smashed" and recipes[-1].index > 0:
        return Expected(tensors=crossing(recipes[-1]), rows=batch_rows())
    if content == "weights?" or content == "weights":
        return part_weights(*recipes)
    return Expected(loss=sign_of(loss))


def returns(recipe: PartRecipe) -> bool:
    """Whether gradients of a part's outputs are sent: something in it or in front of it is trained."""
    return is_trained_before(recipe.spec, recipe.cuts, recipe.index + 1)


def sign_of(loss: Loss) -> str:
    """Return the name of a loss that is never negative; empty for any other."""
    return next((name for name, known in _NEVER_NEGATIVE if known is loss), "")


def behind(recipe: PartRecipe) -> tuple[Form, ...]:
    """Return the forms of the tensors that a part sends to the part behind it."""
    return crossing(replace(recipe, index=recipe.index + 1))


def batch_rows() -> int | None:
    """Return the number of samples of the batch in flight; None outside of a step."""
    samples = current_samples.get()
    return None if samples is None else len(samples)


def of_node(content: str, recipe: PartRecipe, stage: Stage | None) -> Expected:
    """Return what a compute node expects beside smashed data and labels: gradients like its outputs, weights.

    Args:
        content: what the value is.
        recipe: the part of the owner whose call it is.
        stage: the part of that owner, if it is built.
    """
    if content.startswith("gradients") and stage is not None and stage.part.outputs:
        return Expected(tensors=stage.part.outputs if returns(recipe) else ())
    if content == "weights":
        return part_weights(recipe)
    return Expected(infinite=infinite_in(recipe.spec) if content == "state" else ())


def classes_of(recipe: PartRecipe, loss: Loss) -> Mapping[str, int]:
    """Return the number of classes of the labels by task, where the loss takes class labels."""
    return _classes(recipe.spec) if loss is cross_entropy else {}


@lru_cache(maxsize=64)
def _classes(spec: ModelSpec) -> Mapping[str, int]:
    if isinstance(spec, ClassifierSpec):
        return {task: len(names) for task, names in spec.classes.items()}
    return {"": spec.num_classes}


def of_rows(forms: tuple[Form, ...], rows: int | None) -> tuple[Form, ...]:
    """Return forms with the sizes that they have for batches of so many rows, if that is known."""
    if not rows:
        return forms
    return tuple(
        form._replace(shape=tuple(-size * rows if size < 0 else size for size in form.shape)) for form in forms
    )


def num_rows(z: Any, forms: Sequence[Form]) -> int | None:
    """Return the number of rows of smashed data; None where it does not show."""
    for tensor, form in zip(as_tuple(z), forms, strict=False):
        for size, of in zip(getattr(tensor, "shape", ()), form.shape, strict=False):
            if of < 0:
                return int(size) // -of
    return None


def rows_of_labels(y: Any) -> int | None:
    """Return the number of labels; None for what is no labels."""
    if type(y) is Tensor:  # the usual ones
        return y.shape[0] if y.ndim else None
    first = next(iter(y.values()), None) if isinstance(y, Mapping) else y
    return first.shape[0] if isinstance(first, Tensor) and first.ndim else None
