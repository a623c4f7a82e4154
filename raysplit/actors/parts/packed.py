"""Parts at rest: the tensors and the optimizer state of a part, without its module.

Frozen weights are left out: all parts in a process share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from raysplit.models.state_entries import copy_all, tensors_of


class PackedPart(NamedTuple):
    """The content of a part between two rounds, without its module; tensors are copies in main memory.

    Attributes:
        tensors: the trained parameters, and all buffers, in the module's order.
        optimizer: the optimizer's state; None where its next step depends on nothing but the weights.
    """

    tensors: list[Tensor]
    optimizer: dict[str, Any] | None

    @property
    def num_bytes(self) -> int:
        """The size of all tensors."""
        states = (self.optimizer or {}).get("state", {}).values()
        own = [value for state in states for value in state.values() if isinstance(value, Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in [*self.tensors, *own])


def kept_tensors(module: nn.Module) -> list[Tensor]:
    """Return the parameters of a module that are trained, and all its buffers."""
    return [tensor for tensor in tensors_of(module) if tensor.requires_grad or not isinstance(tensor, nn.Parameter)]


def copied(tensor: Tensor) -> Tensor:
    """Copy a tensor without a graph to main memory."""
    return tensor.clone() if tensor.is_cpu else tensor.cpu()


def fill(module: nn.Module, tensors: Sequence[Tensor]) -> None:
    """Copy values into all `kept_tensors` of a module, in its order."""
    own = kept_tensors(module)
    if len(own) != len(tensors):
        raise ValueError(f"{len(tensors)} tensors for a {type(module).__name__} that keeps {len(own)}")
    with torch.no_grad():
        copy_all(own, [*tensors])


def is_on(module: nn.Module, device: str) -> bool:
    """Whether all tensors of a module are on a device."""
    return all(tensor.device == torch.device(device) for tensor in tensors_of(module))
