"""The backward pass from given gradients, without torch's package for symbolic shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def backward(outputs: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
    """Accumulate gradients in the graph of outputs, as ``torch.autograd.backward(outputs, gradients)`` does.

    The numbers are the same. With given gradients that function loads SymPy to compare shapes, which takes a second and
    tens of MiB in every process; a scalar whose gradient by each output is the given one needs none to begin with.

    Raises:
        RuntimeError: a gradient does not have the shape of its output.
    """
    for output, gradient in zip(outputs, gradients, strict=True):
        if output.shape != gradient.shape:
            raise RuntimeError(
                f"Mismatch in shape: a gradient has shape {tuple(gradient.shape)} and its output has shape "
                f"{tuple(output.shape)}"
            )
    torch.autograd.backward(_Begin.apply(tuple(gradients), *outputs))


class _Begin(torch.autograd.Function):
    """A scalar whose gradients by its inputs are the given ones."""

    @staticmethod
    def forward(ctx: Any, gradients: tuple[Tensor, ...], *outputs: Tensor) -> Tensor:
        ctx.gradients = gradients
        return torch.zeros((), device=outputs[0].device)

    @staticmethod
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor | None, ...]:
        return (None, *ctx.gradients)
