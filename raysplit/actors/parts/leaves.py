"""Tensors that crossed a cut: the leaves of a part's graph, and the gradients that they collect."""

from __future__ import annotations

import torch
from torch import Tensor

Tensors = Tensor | tuple[Tensor, ...]
_ARRIVED = "_raysplit_arrived"  # attribute of a leaf: the gradients that its hook took, at most one


def as_tuple(value: Tensors) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def untuple(values: tuple[Tensor, ...]) -> Tensors:
    return values[0] if len(values) == 1 else values


def leaves(values: Tensors, device: torch.device | str = "cpu") -> tuple[Tensor, ...]:
    """Make received tensors the leaves of a new graph on a device; floating-point ones get a gradient.

    A hook takes the gradient as the backward pass gives it. In ``.grad`` it would lie in memory as the tensor does, and
    the kernels of the part in front, which differ by memory order, would give other last bits than in the uncut model.
    """
    return tuple([_leaf(v.detach().to(device)) for v in as_tuple(values)])


def _leaf(value: Tensor) -> Tensor:
    if value.is_floating_point():
        arrived: list[Tensor] = []
        value.requires_grad_(True).register_hook(arrived.append)  # type: ignore[no-untyped-call]
        setattr(value, _ARRIVED, arrived)
    return value


def gradients(inputs: tuple[Tensor, ...]) -> Tensors:
    """Return the gradients of crossing tensors; zero for one on which the loss does not depend."""
    return untuple(tuple(_gradient(v) for v in inputs))


def _gradient(leaf: Tensor) -> Tensor:
    arrived: list[Tensor] = getattr(leaf, _ARRIVED, [])
    return arrived[0] if arrived else torch.zeros_like(leaf)
