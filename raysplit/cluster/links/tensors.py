"""Serialization of values for a link: tensors as raw buffers beside the pickle stream, and a count of their bytes.

Pickling a torch tensor makes an in-band copy that costs several times a memory copy. A tensor is therefore sent as a
numpy array over the same memory, which pickle protocol 5 passes on as one out-of-band buffer; at the receiver the
tensor is a view of the transport's memory, which is shared and read-only. Parts never write to received tensors: they
detach them into leaves, and the in-place operations on them are rewritten when a model is cut.

A message is a tuple of built-in types and arrays, which are pickled in C: a class would add a tenth to the time of a
small round trip.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from inspect import isdatadescriptor
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

with warnings.catch_warnings():
    # Torch warns, once in a process, about read-only memory. Received tensors are never written to.
    warnings.simplefilter("ignore", UserWarning)
    torch.from_numpy(np.frombuffer(b"\0", np.uint8))


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Apply a function to every tensor in nested tuples, lists and mappings; return other values unchanged."""
    return function(value) if isinstance(value, Tensor) else _mapped(partial(map_tensors, function), value)


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply a function to the items of a tuple, list or mapping; return other values unchanged."""
    if isinstance(value, tuple):
        items = [function(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [function(item) for item in value]
    if isinstance(value, Mapping):
        return {key: function(item) for key, item in value.items()}
    return value


_NOTHING: frozenset[type] = frozenset({str, int, float, bool, type(None)})  # most of what is sent holds no tensor
_weighers: dict[type, Callable[[Any], int] | None] = {}  # None: no instance holds a tensor


def num_bytes(value: Any) -> int:
    """Return the payload bytes of all tensors in a nested value; other objects may have a ``num_bytes`` of their own.

    The way to measure a type is looked up once: the instances of a class with the attribute ``num_bytes = 0`` count as
    0 bytes.
    """
    kind = type(value)
    try:
        weigh = _weighers[kind]
    except KeyError:
        weigh = _weighers[kind] = _weigher(kind)
    return 0 if weigh is None else weigh(value)


def _weigher(kind: type) -> Callable[[Any], int] | None:
    if kind in _NOTHING:
        return None
    if issubclass(kind, Tensor):
        return lambda tensor: tensor.nbytes if tensor.layout is torch.strided else tensor.numel() * tensor.itemsize
    if issubclass(kind, tuple | list):
        return lambda items: sum([num_bytes(item) for item in items if type(item) not in _NOTHING])
    if issubclass(kind, Mapping):
        return lambda items: sum([num_bytes(item) for item in items.values()])
    same_for_all = getattr(kind, "num_bytes", None)
    if isinstance(same_for_all, int):
        return (lambda _: same_for_all) if same_for_all else None
    return attrgetter("num_bytes") if isdatadescriptor(same_for_all) else _own_size


def _own_size(value: Any) -> int:
    size = getattr(value, "num_bytes", 0)
    return size if isinstance(size, int) else 0  # a handle has an attribute of every name


class _Raw(NamedTuple):
    """The bytes of a tensor whose type numpy lacks or whose order in memory has to be kept, since kernels differ by it.

    Attributes:
        raw: its numbers once each, in the order in which they lie in memory.
        dtype: its type.
        shape: its shape.
        strides: its strides; 0 for a dimension along which all numbers are the same.
    """

    raw: npt.NDArray[np.uint8]
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Array(NamedTuple):
    """An array that was an array before `pack`, not a tensor."""

    array: npt.NDArray[Any]


def pack(value: Any) -> Any:
    """Replace the tensors of a nested value by arrays, over the same memory if it is contiguous."""
    if isinstance(value, Tensor):
        return _packed(value)
    if isinstance(value, np.ndarray):
        return _Array(value)
    return _mapped(pack, value)


def unpack(value: Any) -> Any:
    """Reverse `pack`; the tensors are read-only views of the arrays' memory."""
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value)
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, _Raw):
        return _unpacked(value)
    return _mapped(unpack, value)


def _packed(tensor: Tensor) -> npt.NDArray[Any] | _Raw:
    array = _array(tensor)
    if array is None:
        tensor = tensor.detach().cpu()
        array = _array(tensor)
    if array is not None and array.flags.c_contiguous:
        return array
    shape, strides = tuple(tensor.shape), tensor.stride()
    if not tensor.numel():
        return _Raw(np.empty(0, np.uint8), tensor.dtype, shape, strides)
    if _overlaps(shape, strides):  # as windows do, which cannot be laid out again from their numbers
        tensor = tensor.contiguous()
        strides = tensor.stride()
    once = tensor[_once(shape, strides)].permute(_outermost_first(strides)).contiguous()
    raw = once.as_strided((once.numel(),), (1,)).view(torch.uint8).numpy()
    return _Raw(raw, tensor.dtype, shape, strides)


def _unpacked(packed: _Raw) -> Tensor:
    _, dtype, shape, strides = packed
    if not packed.raw.size:
        return torch.empty(shape, dtype=dtype)
    sizes = [1 if stride == 0 else size for size, stride in zip(shape, strides, strict=True)]
    order = _outermost_first(strides)
    dense = torch.from_numpy(packed.raw).view(dtype).reshape([sizes[dimension] for dimension in order])
    tensor = dense.permute([order.index(dimension) for dimension in range(len(order))])
    if any(a != b for a, b, size in zip(tensor.stride(), strides, sizes, strict=True) if size > 1):
        apart = torch.empty_strided(sizes, strides, dtype=dtype)  # a slice of a larger tensor had gaps
        tensor = apart.copy_(tensor)
    return tensor.expand(shape)


def _once(shape: tuple[int, ...], strides: tuple[int, ...]) -> tuple[slice, ...]:
    return tuple(slice(0, 1 if stride == 0 else size) for size, stride in zip(shape, strides, strict=True))


def _overlaps(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Whether two numbers of different indices lie at one place, apart from dimensions of stride 0."""
    end = 1
    for stride, size in sorted(
        (stride, size) for stride, size in zip(strides, shape, strict=True) if stride and size > 1
    ):
        if stride < end:
            return True
        end = stride * (size - 1) + end
    return False


def _outermost_first(strides: tuple[int, ...]) -> list[int]:
    return sorted(range(len(strides)), key=lambda dimension: -strides[dimension])


def _array(tensor: Tensor) -> npt.NDArray[Any] | None:
    """Return a view of the tensor's memory, or None. An attempt costs less than checks of graph, device and type."""
    try:
        array: npt.NDArray[Any] = tensor.numpy()
    except (RuntimeError, TypeError):  # TypeError: on another device, or of a type that numpy lacks
        return None
    return array


class Envelope:
    """A value with the name of the party that computed it.

    Attributes:
        made_s: time at which the value was computed, on the clock of an emulated run.
        num_bytes: size of its tensors.
    """

    __slots__ = ("made_s", "num_bytes", "source", "value")

    def __init__(self, source: str, value: Any, made_s: float = 0.0, size_bytes: int | None = None) -> None:
        self.source = source
        self.value = value
        self.made_s = made_s
        self.num_bytes = num_bytes(value) if size_bytes is None else size_bytes

    def sealed(self) -> Sealed:
        """Return the envelope in the form that is sent to another process."""
        return sealed(self.source, self.value, self.made_s)


Sealed = tuple[str, float, int, Any]
"""An envelope in transit: source, time, bytes, packed value (or the value itself if it has no tensors)."""


def sealed(source: str, value: Any, made_s: float = 0.0) -> Sealed:
    """Return a value in the form that is sent to another process."""
    size_bytes = num_bytes(value)
    return source, made_s, size_bytes, pack(value) if size_bytes else value


def opened(sealed: Sealed) -> Envelope:
    source, made_s, size_bytes, value = sealed
    return Envelope(source, unpack(value) if size_bytes else value, made_s, size_bytes)


def content_of(sealed: Sealed) -> Any:
    """Return the value of an envelope in transit."""
    return unpack(sealed[3]) if sealed[2] else sealed[3]
