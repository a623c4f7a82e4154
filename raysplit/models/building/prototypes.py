"""Models as a specification describes them, once per process: whole, and as outlines whose weights are in files.

All of them are cached: copy them before you hand them out, and never write to them.
"""

from __future__ import annotations

import copy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from raysplit.models.frozen import fixed_names, frozen_parameters, share_frozen
from raysplit.models.given_model import check_built
from raysplit.models.sources import hugging_face
from raysplit.models.sources.own_keys import Outline, fill
from raysplit.models.zoo import build_model
from raysplit.seeding import derive, keyed_draws

if TYPE_CHECKING:
    from raysplit.models.spec import ModelSpec

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16, "float16": torch.float16}


@lru_cache(maxsize=4)
def prototype(spec: ModelSpec) -> nn.Module:
    """Build the whole model with its initial weights."""
    with keyed_draws(derive(spec.seed, "model")):
        about_data: dict[str, Any] = {"input_shape": spec.input_shape, "num_classes": spec.num_classes}
        inputs, sizes, options = dict(spec.inputs), dict(spec.sizes), dict(spec.options)
        if spec.given is not None:
            model = spec.given.build(about_data | sizes | {"inputs": inputs}, options)
        else:
            model = build_model(spec.name, **about_data, data_inputs=inputs, data_sizes=sizes, **options)
    return _tuned(spec, model)


@lru_cache(maxsize=4)
def outline(spec: ModelSpec) -> Outline | None:
    """Build the outline of a model whose weights are in a folder; None for a model that every party builds whole.

    Models that torch.fx traces are built whole: it runs them.
    """
    folder = spec.name.removeprefix(hugging_face.PREFIX)
    is_own = spec.given is None and spec.tuning.weights is None and not builds_otherwise(spec)
    if folder == spec.name or not hugging_face.is_folder(folder) or spec.front_end != "export" or not is_own:
        return None
    about = (spec.input_shape, spec.num_classes, dict(spec.options), dict(spec.sizes))
    with keyed_draws(derive(spec.seed, "model")):
        found = hugging_face.outline(folder, *about, spec.tuning.folder)
    if found is not None:
        found.model = _tuned(spec, found.model)
    return found


def _tuned(spec: ModelSpec, model: nn.Module) -> nn.Module:
    check_built(model, spec.name, spec.dtype, DTYPES[spec.dtype])
    return spec.tuning.applied(model.to(DTYPES[spec.dtype]), spec.seed)


def builds_otherwise(spec: ModelSpec) -> bool:
    """Whether the class of a specification builds its model in another way than `prototype`."""
    from raysplit.models.spec import ModelSpec

    return type(spec).build is not ModelSpec.build


def outlined(spec: ModelSpec) -> nn.Module:
    """Return the model for what its shapes, types and names say: weights in files may be on the meta device."""
    found = outline(spec)
    return prototype(spec) if found is None else found.model


def check_outline(spec: ModelSpec) -> None:
    """Raise ``ValueError`` unless the weights that parties read one by one are those of the whole model, in bits."""
    found = outline(spec)
    if found is None:
        return
    whole, own = prototype(spec).state_dict(), found.model.state_dict()
    for name, value in whole.items():
        read = found.read(name).to(value.dtype) if own[name].is_meta else own[name]
        if not torch.equal(read, value):
            raise ValueError(
                f"{name!r} of {spec.name} has other values when it is read by itself than when transformers reads the "
                f"folder; load the model and save it anew with save_pretrained"
            )


def infinite_names(spec: ModelSpec) -> frozenset[str]:
    """Return the names of the weights and buffers that are infinite from the start, such as those of a mask."""
    found = outline(spec)
    return frozenset(
        name
        for name, value in state_forms(spec).items()
        if (found.is_infinite(name) if found is not None and value.is_meta else bool(torch.isinf(value).any()))
    )


def state_forms(spec: ModelSpec) -> dict[str, Tensor]:
    """Return the initial state for what its names, shapes and types say; weights in files may be on the meta device."""
    return spec.initial_state() if builds_otherwise(spec) else outlined(spec).state_dict()


@lru_cache(maxsize=4)
def fixed_keys(spec: ModelSpec) -> frozenset[str]:
    """Return the names of what training leaves as it is; weights in files are not read."""
    return frozenset(fixed_names(spec.build() if builds_otherwise(spec) else outlined(spec)))


@lru_cache(maxsize=4)
def fixed_state(spec: ModelSpec) -> dict[str, Tensor]:
    """Return what training leaves as it is, by name."""
    # Cached, because every evaluation asks for each model's, and most have none.
    model = spec.build() if builds_otherwise(spec) else prototype(spec)
    state, fixed = model.state_dict(), fixed_names(model)
    return {key: value for key, value in state.items() if key in fixed}


@lru_cache(maxsize=4)
def frozen(spec: ModelSpec, device: str) -> dict[str, nn.Parameter]:
    """Return the frozen weights that all parts of this process share; for an outline those that were read so far."""
    return frozen_parameters(prototype(spec), device) if outline(spec) is None else {}


def whole(spec: ModelSpec, device: str) -> nn.Module:
    """Build the whole model in new memory, apart from the frozen weights that all parts of this process share."""
    if builds_otherwise(spec):
        return spec.build().to(device)
    if (found := outline(spec)) is not None:
        return fill_shared(spec, found, copy.deepcopy(found.model), device).to(device)
    own, shared = prototype(spec), frozen(spec, device)
    kept = {id(p): shared[name] for name, p in own.named_parameters(remove_duplicate=False) if name in shared}
    return copy.deepcopy(own, memo=kept).to(device)


def fill_shared(spec: ModelSpec, found: Outline, part: nn.Module, device: str) -> nn.Module:
    """Fill a part of an outline in place: with the frozen weights of the process, and with others of its own."""
    shared, of_tensor = frozen(spec, device), dict[int, nn.Parameter]()
    for name, weight in part.named_parameters(remove_duplicate=False):
        if weight.requires_grad or name in shared:
            continue
        if id(weight) not in of_tensor:
            value = found.read(name).to(weight.dtype) if weight.is_meta else weight.detach()
            of_tensor[id(weight)] = nn.Parameter(value.to(device), requires_grad=False)
        shared[name] = of_tensor[id(weight)]
    share_frozen(part, shared)
    return found.fill(part)


def filled_with_zeros(part: nn.Module) -> nn.Module:
    """Fill a part of an outline in place with zeros, which take no memory until they are written."""
    return fill(part, lambda _, like: torch.zeros(like.shape))


def filled_from(part: nn.Module, model: nn.Module) -> nn.Module:
    """Fill a part of an outline in place with the tensors of the whole model."""
    values = model.state_dict(keep_vars=True)
    return fill(part, lambda name, _: values[name].detach())
