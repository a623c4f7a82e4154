"""One tensor for several heads, whose gradients are summed in the order of the heads."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class _FanOut(torch.autograd.Function):
    """One tensor for several heads, whose gradients are summed in the order of the heads."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, count: int) -> tuple[Tensor, ...]:
        return tuple(z.view_as(z) for _ in range(count))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return in_order(gradients), None


def fan_out(z: Tensor, count: int) -> tuple[Tensor, ...]:
    """Return `z` once per head; autograd alone would add the gradients in the reverse order of the heads."""
    copies: tuple[Tensor, ...] = _FanOut.apply(z, count)
    return copies


def in_order(terms: Iterable[Tensor]) -> Tensor:
    """Sum at least one tensor, first to last, since floating-point sums depend on the order."""
    first, *others = terms
    for term in others:
        first = first + term
    return first
