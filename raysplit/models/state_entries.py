"""The places of a module's parameters and buffers, found once instead of in every read of its state.

``module.state_dict()`` visits all modules and calls their hooks. For a small model this takes as long as a step of
training. A module whose classes leave reading and loading to torch has its tensors in dictionaries that stay the same,
and reading those gives the same state.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

_TORCHS = ("state_dict", "load_state_dict", "_save_to_state_dict", "_load_from_state_dict", "get_extra_state")
_HOOKS = ("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")


_Kind = TypeVar("_Kind", bound=Tensor)


class _Entry(NamedTuple):
    name: str
    holder: Mapping[str, Tensor | None]
    key: str


class Entries:
    """The places of all tensors in the state of a module, in the order of its ``state_dict``.

    It holds the dictionaries of the modules and not the modules, which can go while it is kept.
    """

    def __init__(self, module: nn.Module) -> None:
        modules = [*_modules(module, "")]
        self._parameters = [each._parameters for _, each in modules if each._parameters]
        self._buffers = [each._buffers for _, each in modules if each._buffers]
        self._structure = [kind for _, each in modules for kind in (each._modules, each._parameters, each._buffers)]
        self._sizes = [len(kind) for kind in self._structure]
        self._hooks = [getattr(each, hooks) for _, each in modules for hooks in _HOOKS]
        self._entries = [
            _Entry(prefix + key, holder, key)
            for prefix, each in modules
            for holder, left_out in ((each._parameters, ()), (each._buffers, each._non_persistent_buffers_set))
            for key in holder
            if key not in left_out
        ]

    @property
    def is_current(self) -> bool:
        """Whether the module still has as many modules, parameters and buffers as it had, and no hooks."""
        return not any(self._hooks) and self._sizes == [len(kind) for kind in self._structure]

    @property
    def has_frozen(self) -> bool:
        """Whether a parameter requires no gradient."""
        return any(not p.requires_grad for held in self._parameters for p in held.values() if p is not None)

    @property
    def names(self) -> list[str]:
        """The names in the present state."""
        return [name for name, holder, key in self._entries if holder[key] is not None]

    def parameters(self) -> list[nn.Parameter]:
        """Return ``[*module.parameters()]``."""
        return _distinct(self._parameters)

    def buffers(self) -> list[Tensor]:
        """Return ``[*module.buffers()]``."""
        return _distinct(self._buffers)

    def tensors(self) -> dict[str, Tensor]:
        """Return the parameters and buffers of the present state by name."""
        found = ((name, holder[key]) for name, holder, key in self._entries)
        return {name: tensor for name, tensor in found if tensor is not None}


def _distinct(holders: Iterable[Mapping[str, _Kind | None]]) -> list[_Kind]:
    return list({id(tensor): tensor for held in holders for tensor in held.values() if tensor is not None}.values())


def _modules(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module]]:
    yield prefix, module
    for name, child in module._modules.items():
        if child is not None:
            yield from _modules(child, f"{prefix}{name}.")


_FOUND: weakref.WeakKeyDictionary[nn.Module, Entries | None] = weakref.WeakKeyDictionary()


def entries_of(module: nn.Module) -> Entries | None:
    """Return the places of a module's tensors; None if a class or a hook of it takes part in reading or loading."""
    if module not in _FOUND:
        _FOUND[module] = Entries(module) if _is_torchs(module) else None
    entries = _FOUND[module]
    if entries is not None and not entries.is_current:
        del _FOUND[module]
        return None
    return entries


def parameters_of(module: nn.Module) -> list[nn.Parameter]:
    """Return ``[*module.parameters()]``."""
    entries = entries_of(module)
    return entries.parameters() if entries is not None else [*module.parameters()]


def tensors_of(module: nn.Module) -> list[Tensor]:
    """Return ``[*module.parameters(), *module.buffers()]``."""
    entries = entries_of(module)
    if entries is None:
        return [*module.parameters(), *module.buffers()]
    return [*entries.parameters(), *entries.buffers()]


def names_of(module: nn.Module) -> list[str]:
    """Return ``[*module.state_dict()]``."""
    entries = entries_of(module)
    return entries.names if entries is not None else [*module.state_dict()]


def copy_all(own: list[Tensor], values: list[Tensor]) -> None:
    """Copy values into as many tensors of the same shapes, in one call of torch instead of one for each."""
    if own:
        torch._foreach_copy_(own, values)


def _is_torchs(module: nn.Module) -> bool:
    return isinstance(module, nn.Module) and all(  # a simulation has weightless stand-ins
        not any(getattr(each, hooks) for hooks in _HOOKS)
        and all(getattr(type(each), name) is getattr(nn.Module, name) for name in _TORCHS)
        for each in module.modules()
    )
