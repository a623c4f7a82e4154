"""A user's own loss function, with what it returns checked."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from raysplit.data.failures import call_own


def own_loss(path: str, function: Callable[..., Any]) -> Callable[[Any, Any], Tensor]:
    """Return the loss function with a check of every value.

    It raises ``ValueError`` where the function fails, or returns anything but a tensor of one number that depends on
    the outputs.
    """

    @wraps(function)  # its module tells whether it may draw random numbers
    def checked(outputs: Any, y: Any) -> Tensor:
        value = call_own("loss", path, function, outputs, y)
        rule = "it must return one number as a tensor, the mean over the samples"
        if not isinstance(value, Tensor):
            raise ValueError(f"loss {path!r} returned {value!r:.60} ({type(value).__name__}); {rule}")
        if value.ndim:
            raise ValueError(f"loss {path!r} returned a tensor of shape {tuple(value.shape)}; {rule}, such as .mean()")
        if torch.is_grad_enabled() and _needs_gradient(outputs) and not value.requires_grad:
            raise ValueError(f"loss {path!r} returned a number that does not depend on the outputs; {rule}")
        return value

    return checked


def _needs_gradient(outputs: Any) -> bool:
    values = outputs.values() if isinstance(outputs, dict) else [outputs]
    return any(isinstance(value, Tensor) and value.requires_grad for value in values)
