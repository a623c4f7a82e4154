"""The optimizer step of a part, without the bookkeeping that torch does around it, and what its state may set."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from typing import Any

import torch
from torch import Tensor

from raysplit.registry import shown


def use_up_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Update the parameters and clear their gradients, as ``optimizer.step()`` and ``optimizer.zero_grad()`` do.

    The numbers are the same. Around the update itself these two methods write records for torch's profiler, look for
    hooks and check for compilation, which takes longer than the update of a small part. Hooks of the optimizer are not
    called.
    """
    with torch.no_grad():
        _update_of(type(optimizer))(optimizer)  # type: ignore[arg-type]  # classes can be hashed
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


@cache
def _update_of(kind: type[torch.optim.Optimizer]) -> Callable[[torch.optim.Optimizer], Any]:
    """Return the step that the class itself defines, without torch's wrappers."""
    update: Callable[[torch.optim.Optimizer], Any] = inspect.unwrap(kind.step)
    return update


@contextmanager
def without_compiler() -> Iterator[None]:
    """Return a context in which optimizers are built, read and loaded without torch's compiler.

    Torch keeps these methods out of what it compiles, and loads the whole compiler to do so: seconds and a hundred MiB
    in every process, where nothing is compiled. Where something is, the compiler is there already and nothing changes.
    """
    told = [] if "torch._dynamo" in sys.modules else [_inner(name) for name in _KEPT_OUT]
    for function in told:
        setattr(function, _DISABLED, function)
    try:
        yield
    finally:
        for function in told:
            if getattr(function, _DISABLED, None) is function:  # another thread may have been in here as well
                delattr(function, _DISABLED)


_KEPT_OUT = ("add_param_group", "state_dict", "load_state_dict")
_DISABLED = "__dynamo_disable"  # where torch looks for the function that it calls instead


def _inner(name: str) -> Any:
    return inspect.unwrap(getattr(torch.optim.Optimizer, name))


_OF_THE_ROUND = ("lr", "initial_lr")  # the schedule sets them at the beginning of each round


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state, such as momentum, into an optimizer with the same arguments.

    Raises:
        ValueError: the state is of an optimizer with other arguments, which torch would take over without a word, or
            of other parameters.
    """
    with without_compiler():
        _load(optimizer, state)


def _load(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    groups = optimizer.state_dict()["param_groups"]
    for own, kept in zip(groups, state["param_groups"], strict=True):
        for name in [name for name in own if name in kept and name not in _OF_THE_ROUND]:
            if _plain(own[name]) != _plain(kept[name]):
                raise ValueError(f"the optimizer's {name} is {shown(kept[name])} in the state, {own[name]} in the run")
        for name in [name for name in _OF_THE_ROUND if name in kept]:
            if isinstance(kept[name], bool) or not isinstance(kept[name], int | float | Tensor):
                raise ValueError(f"the optimizer's {name} is {shown(kept[name])} in the state, which is no number")
    strangers = state["state"].keys() - {number for group in groups for number in group["params"]}
    if strangers:
        raise ValueError(f"the optimizer's state has an entry {min(map(str, strangers))}, which is no parameter's")
    for number, entry in state["state"].items():  # torch takes anything, and fails at the next step or starts anew
        if not isinstance(entry, Mapping):
            raise ValueError(f"the optimizer's state of parameter {number} is {shown(entry)}, not entries by name")
    optimizer.load_state_dict(deepcopy(dict(state)))  # without the copy, torch aliases the tensors
    for own, loaded in zip(groups, optimizer.param_groups, strict=True):  # torch adds what it has had since
        if lacking := sorted(own.keys() - loaded.keys()):
            raise ValueError(f"the optimizer's state lacks {lacking[0]}")


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, list | tuple) else value
