"""The update of a part: torch's own, without what torch does around it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch


def use_up_gradients(optimizer: torch.optim.Optimizer) -> None:
    """Step and clear the gradients: the same numbers as from ``optimizer.step()`` and ``optimizer.zero_grad()``.

    Around the update itself, these two write records for torch's profiler, look for hooks and ask whether they are
    being compiled, which takes longer than to update a small part. Hooks on the optimiser are not called.
    """
    with torch.no_grad():
        _update_of(type(optimizer))(optimizer)  # type: ignore[arg-type]  # classes can be hashed
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None


@cache
def _update_of(kind: type[torch.optim.Optimizer]) -> Callable[[torch.optim.Optimizer], Any]:
    """The step that the class itself defines."""
    update: Callable[[torch.optim.Optimizer], Any] = inspect.unwrap(kind.step)
    return update
