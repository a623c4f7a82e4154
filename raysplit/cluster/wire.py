"""What crosses a link: tensors as raw buffers beside the pickle stream, and a count of their bytes.

A torch tensor pickles through an in-band copy that costs several times a memory copy. `Packed` hands its memory to
pickle protocol 5 as one out-of-band buffer instead; on the receiving side the tensor is a view of the transport's
(shared, read-only) memory. Parts therefore never write to what they receive: they detach it into a leaf and every
in-place operation on it is rewritten when a model is cut.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysplit.cluster.contract import LinkTraffic

with warnings.catch_warnings():
    # Torch warns, once in a process, of memory that must not be written to. Nobody writes to received tensors.
    warnings.simplefilter("ignore", UserWarning)
    torch.from_numpy(np.frombuffer(b"\0", np.uint8))


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Apply a function to every tensor in nested tuples, lists, mappings; other values pass through."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, tuple):
        items = [map_tensors(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [map_tensors(function, item) for item in value]
    if isinstance(value, Mapping):
        return {key: map_tensors(function, item) for key, item in value.items()}
    return value


def num_bytes(value: Any) -> int:
    """Payload bytes of all tensors in a nested value; values that know their own size say so (``num_bytes``)."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, tuple | list):
        return sum(num_bytes(item) for item in value)
    if isinstance(value, Mapping):
        return sum(num_bytes(item) for item in value.values())
    size = getattr(value, "num_bytes", 0)
    return size if isinstance(size, int) else 0  # a handle has any verb one asks for


class Packed:
    """A tensor on its way: pickled as one out-of-band buffer, unpickled as the tensor itself."""

    __slots__ = ("tensor",)

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor

    def __reduce__(self) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
        tensor = self.tensor.detach().cpu()
        channels_last = (
            tensor.dim() == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
        )
        if channels_last:
            tensor = tensor.permute(0, 2, 3, 1)
        shape = tuple(tensor.shape)
        raw = tensor.contiguous().reshape(-1).view(torch.uint8).numpy() if tensor.numel() else np.empty(0, np.uint8)
        return _unpack, (raw, tensor.dtype, shape, channels_last)


def _unpack(raw: np.ndarray[Any, Any], dtype: torch.dtype, shape: tuple[int, ...], channels_last: bool) -> Tensor:
    if not raw.size:
        return torch.empty(shape, dtype=dtype)
    tensor = torch.from_numpy(raw)
    tensor = tensor.view(dtype).reshape(shape)
    return tensor.permute(0, 3, 1, 2) if channels_last else tensor


class Envelope:
    """A value with the name of the party that made it; its size is what its tensors weigh.

    ``made_s`` is when it was made, on the clock of an emulated run.
    """

    __slots__ = ("made_s", "num_bytes", "source", "value")

    def __init__(self, source: str, value: Any, made_s: float = 0.0) -> None:
        self.source = source
        self.value = value
        self.made_s = made_s
        self.num_bytes = num_bytes(value)

    def __reduce__(self) -> tuple[Callable[..., Envelope], tuple[Any, ...]]:
        return _envelope, (self.source, map_tensors(Packed, self.value), self.made_s)


def _envelope(source: str, value: Any, made_s: float) -> Envelope:
    return Envelope(source, value, made_s)


class TrafficMeter:
    """Counts the tensor bytes and messages that each link has carried. A party's calls to itself are not traffic."""

    def __init__(self) -> None:
        self._bytes: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._messages: defaultdict[tuple[str, str], int] = defaultdict(int)

    def add(self, source: str, destination: str, size_bytes: int) -> None:
        if size_bytes and source != destination:
            self._bytes[source, destination] += size_bytes
            self._messages[source, destination] += 1

    def records(self) -> list[LinkTraffic]:
        return [
            LinkTraffic(source=s, destination=d, num_bytes=self._bytes[s, d], num_messages=self._messages[s, d])
            for s, d in sorted(self._bytes)
        ]


def merge_traffic(parts: list[list[LinkTraffic]]) -> list[LinkTraffic]:
    """One sorted table out of the tables of several places."""
    total: dict[tuple[str, str], LinkTraffic] = {}
    for record in (record for part in parts for record in part):
        key = (record.source, record.destination)
        before = total.get(key)
        total[key] = LinkTraffic(
            source=record.source,
            destination=record.destination,
            num_bytes=record.num_bytes + (before.num_bytes if before else 0),
            num_messages=record.num_messages + (before.num_messages if before else 0),
        )
    return [total[key] for key in sorted(total)]


def difference(after: Sequence[LinkTraffic], before: Sequence[LinkTraffic]) -> list[LinkTraffic]:
    """What crossed the links between two counts."""
    earlier = {(r.source, r.destination): r for r in before}
    moved = []
    for record in after:
        old = earlier.get((record.source, record.destination))
        link = LinkTraffic(
            source=record.source,
            destination=record.destination,
            num_bytes=record.num_bytes - (old.num_bytes if old else 0),
            num_messages=record.num_messages - (old.num_messages if old else 0),
        )
        if link.num_messages:
            moved.append(link)
    return moved
