"""What crosses a link: tensors as raw buffers beside the pickle stream, and a count of their bytes.

A torch tensor pickles through an in-band copy that costs several times a memory copy. It travels as a numpy array
over the same memory instead, which pickle protocol 5 hands on as one out-of-band buffer; on the receiving side the
tensor is a view of the transport's (shared, read-only) memory. Parts therefore never write to what they receive: they
detach it into a leaf and every in-place operation on it is rewritten when a model is cut.

A message is a tuple of built-in types and arrays, which pickle in C: a class of one's own would cost a tenth of a
small round trip.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

with warnings.catch_warnings():
    # Torch warns, once in a process, of memory that must not be written to. Nobody writes to received tensors.
    warnings.simplefilter("ignore", UserWarning)
    torch.from_numpy(np.frombuffer(b"\0", np.uint8))


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Apply a function to every tensor in nested tuples, lists, mappings; other values pass through."""
    return function(value) if isinstance(value, Tensor) else _mapped(partial(map_tensors, function), value)


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to what tuples, lists and mappings hold; other values pass through."""
    if isinstance(value, tuple):
        items = [function(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [function(item) for item in value]
    if isinstance(value, Mapping):
        return {key: function(item) for key, item in value.items()}
    return value


_NOTHING: frozenset[type] = frozenset({str, int, float, bool, type(None)})  # most of what is sent holds no tensor
_weighers: dict[type, Callable[[Any], int]] = {}


def num_bytes(value: Any) -> int:
    """Payload bytes of all tensors in a nested value; values that know their own size say so (``num_bytes``).

    How a type is weighed is looked up once: a class attribute ``num_bytes = 0`` makes its instances weigh nothing.
    """
    kind = type(value)
    weigh = _weighers.get(kind)
    if weigh is None:
        weigh = _weighers[kind] = _weigher(kind)
    return weigh(value)


def _weigher(kind: type) -> Callable[[Any], int]:
    if kind in _NOTHING:
        return lambda _: 0
    if issubclass(kind, Tensor):
        return lambda tensor: tensor.nbytes
    if issubclass(kind, tuple | list):
        return lambda items: sum([num_bytes(item) for item in items if type(item) not in _NOTHING])
    if issubclass(kind, Mapping):
        return lambda items: sum([num_bytes(item) for item in items.values()])
    same_for_all = getattr(kind, "num_bytes", None)
    if isinstance(same_for_all, int):
        return lambda _: same_for_all
    return _own_size


def _own_size(value: Any) -> int:
    size = getattr(value, "num_bytes", 0)
    return size if isinstance(size, int) else 0  # a handle has any verb one asks for


class _Raw(NamedTuple):
    """A tensor that numpy cannot hold, or whose memory order is to survive."""

    raw: npt.NDArray[np.uint8]
    dtype: torch.dtype
    shape: tuple[int, ...]
    channels_last: bool


class _Array(NamedTuple):
    """An array that was an array."""

    array: npt.NDArray[Any]


def pack(value: Any) -> Any:
    """The same nested value with arrays in the place of tensors, over the same memory where that is contiguous."""
    if isinstance(value, Tensor):
        return _packed(value)
    if isinstance(value, np.ndarray):
        return _Array(value)
    return _mapped(pack, value)


def unpack(value: Any) -> Any:
    """What `pack` was given, with tensors that view the arrays' memory and must not be written to."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, _Raw):
        raw = torch.from_numpy(value.raw) if value.raw.size else torch.empty(0, dtype=torch.uint8)
        tensor = raw.view(value.dtype).reshape(value.shape)
        return tensor.permute(0, 3, 1, 2) if value.channels_last else tensor
    return _mapped(unpack, value)


def _packed(tensor: Tensor) -> npt.NDArray[Any] | _Raw:
    array = _array(tensor)
    if array is None:
        tensor = tensor.detach().cpu()
        array = _array(tensor)
    if array is not None and array.flags.c_contiguous:
        return array
    channels_last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    if channels_last:
        tensor = tensor.permute(0, 2, 3, 1)
    shape = tuple(tensor.shape)
    raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy() if tensor.numel() else np.empty(0, np.uint8)
    return _Raw(raw, tensor.dtype, shape, channels_last)


def _array(tensor: Tensor) -> npt.NDArray[Any] | None:
    """The tensor's own memory. To try it costs less than to ask the tensor whether it is of a graph or elsewhere."""
    try:
        array: npt.NDArray[Any] = tensor.numpy()
    except (RuntimeError, TypeError):  # or of a type that numpy has no name for
        return None
    return array


class Envelope:
    """A value with the name of the party that made it; its size is what its tensors weigh.

    ``made_s`` is when it was made, on the clock of an emulated run.
    """

    __slots__ = ("made_s", "num_bytes", "source", "value")

    def __init__(self, source: str, value: Any, made_s: float = 0.0, size_bytes: int | None = None) -> None:
        self.source = source
        self.value = value
        self.made_s = made_s
        self.num_bytes = num_bytes(value) if size_bytes is None else size_bytes

    def sealed(self) -> Sealed:
        """As it crosses the border of a process."""
        return sealed(self.source, self.value, self.made_s)


Sealed = tuple[str, float, int, Any]
"""An envelope under way: source, time, bytes, packed value (the value itself where it holds no tensors)."""


def sealed(source: str, value: Any, made_s: float = 0.0) -> Sealed:
    """The value as it crosses the border of a process."""
    size_bytes = num_bytes(value)
    return source, made_s, size_bytes, pack(value) if size_bytes else value


def opened(sealed: Sealed) -> Envelope:
    source, made_s, size_bytes, value = sealed
    return Envelope(source, unpack(value) if size_bytes else value, made_s, size_bytes)
