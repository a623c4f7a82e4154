"""Weights that are not trained: they are built by every party, and are neither sent, nor averaged, nor kept.

A norm whose weights are all frozen uses its running statistics and leaves them as they are; with batch statistics it
would move them, although it is not trained.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.models.cutting.merging import other_names
from raysplit.models.state_entries import copy_all, entries_of


def fixed_names(module: nn.Module) -> frozenset[str]:
    """Return the names in the state of a module that training leaves as they are."""
    weights = {name for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}
    buffers = {f"{path}.{name}".lstrip(".") for path, norm in _frozen_norms(module) for name, _ in norm.named_buffers()}
    return frozenset(weights | buffers)


def trained_state(module: nn.Module) -> dict[str, Any]:
    """Return the state of a module without what training leaves as it is."""
    if (entries := entries_of(module)) is not None and not entries.has_frozen:
        return {name: tensor.detach() for name, tensor in entries.tensors().items()}
    fixed = fixed_names(module)
    return {name: value for name, value in module.state_dict().items() if name not in fixed}


def load_trained(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state that need not have what training leaves as it is, which stays so: other parts may share it.

    Raises ``KeyError`` if anything else differs.
    """
    entries = entries_of(module)
    if entries is not None and not entries.has_frozen and _load_at_once(entries.tensors(), state):
        return
    fixed = fixed_names(module)
    found = module.load_state_dict({name: value for name, value in state.items() if name not in fixed}, strict=False)
    missing = sorted(set(found.missing_keys) - fixed)
    if missing:  # tied weights have a name more than a part sends
        missing = sorted(set(missing) - other_names(module).keys())
    if missing or found.unexpected_keys:
        text = f"lacks {missing[0]!r}" if missing else f"has {found.unexpected_keys[0]!r}, which the module has not"
        raise KeyError(f"the state for a {type(module).__name__} {text}; load the state of the same part")


def _load_at_once(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
    """Copy a state whose names and shapes are the module's own; return False, and change nothing, for any other."""
    if own.keys() != state.keys() or any(t.shape != getattr(state[name], "shape", None) for name, t in own.items()):
        return False
    with torch.no_grad():
        copy_all([*own.values()], [state[name] for name in own])
    return True


def frozen_parameters(module: nn.Module, device: str) -> dict[str, nn.Parameter]:
    """Return the frozen weights of a module by name, on a device."""
    frozen = {name: p for name, p in module.named_parameters(remove_duplicate=False) if not p.requires_grad}
    if torch.device(device).type == "cpu":
        return frozen
    moved = {id(p): nn.Parameter(p.detach().to(device), requires_grad=False) for p in frozen.values()}
    return {name: moved[id(p)] for name, p in frozen.items()}


def share_frozen(module: nn.Module, shared: Mapping[str, nn.Parameter]) -> None:
    """Replace the frozen weights of a module by those that all parts of a process share, by name."""
    if not shared:
        return
    for path, child in module.named_modules(remove_duplicate=False):
        for key, own in child._parameters.items():
            name = f"{path}.{key}".lstrip(".")
            if own is not None and not own.requires_grad and name in shared:
                child._parameters[key] = shared[name]


def train_mode(module: nn.Module) -> None:
    """Set the training mode, apart from norms whose weights are all frozen."""
    module.train()
    for _, norm in _frozen_norms(module):
        norm.eval()


def _frozen_norms(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    if all(p.requires_grad for p in module.parameters()):
        return  # as in most models, whose modules need not be visited in every round
    for path, child in module.named_modules(remove_duplicate=False):
        if isinstance(child, nn.modules.batchnorm._NormBase):
            weights = list(child.parameters())
            if weights and not any(p.requires_grad for p in weights):
                yield path, child
