"""Tensors as bare memory, in which samples travel between processes.

torch's own pickling takes a third of a millisecond per tensor, and there are many shards.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from raysplit.data.inputs import Values

Raw: TypeAlias = tuple[bytearray, torch.dtype, tuple[int, ...]]
RawValues: TypeAlias = Raw | dict[str, Raw]


def raw_values(values: Values) -> RawValues:
    """Return the memory, type and shape of one tensor, or of each tensor by name."""
    return _raw(values) if isinstance(values, Tensor) else {name: _raw(value) for name, value in values.items()}


def tensors(raw: RawValues) -> Values:
    """Return the tensors of `raw_values`, without a copy."""
    return {name: _tensor(value) for name, value in raw.items()} if isinstance(raw, dict) else _tensor(raw)


def _raw(tensor: Tensor) -> Raw:
    flat = tensor.contiguous().reshape(-1)
    return bytearray(flat.view(torch.uint8).numpy()) if len(flat) else bytearray(), tensor.dtype, tuple(tensor.shape)


def _tensor(raw: Raw) -> Tensor:
    memory, dtype, shape = raw
    return torch.frombuffer(memory, dtype=dtype).reshape(shape) if memory else torch.empty(shape, dtype=dtype)
