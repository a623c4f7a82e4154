"""The optimizer step of a part, without the bookkeeping that torch does around it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch


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
