"""Coding of one tensor: which tensors are coded, and what is checked before a coded one is decoded."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from raysplit.cluster.codecs.codec import Codec, Passage
from raysplit.cluster.links.coded import DTYPES, MAX_PAYLOAD_BYTES, Coded, Header, header_bytes, unpacked

MIN_VALUES = 64
"""The smallest number of values of a tensor that is coded."""


def coded_bytes(codec: Codec, shape: tuple[int, ...], dtype: torch.dtype) -> int | None:
    """Return the bytes of a coded tensor with its header, or None if tensors of this shape are not coded.

    For a codec whose sizes depend on the values it is the largest size.
    """
    used = coding_type(dtype)
    if dtype not in DTYPES or prod(shape) < MIN_VALUES or not codec.takes(shape, used):
        return None
    payload_bytes = codec.size(shape, used)
    num_bytes = header_bytes(len(shape)) + payload_bytes
    fits = num_bytes < raw_bytes(shape, dtype) or codec.size_depends_on_values
    return num_bytes if fits and payload_bytes <= MAX_PAYLOAD_BYTES else None


def coding_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which codecs get and give values of a type: half precision as float32, which holds it."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def coded(codec: Codec, leaf: Tensor, at: Passage, *, is_delta: bool = False) -> Coded | None:
    """Return the coded tensor, or None if it is sent unchanged: integer, small, not finite, or no smaller if coded."""
    shape, dtype = tuple(leaf.shape), leaf.dtype
    num_bytes = coded_bytes(codec, shape, dtype)
    if num_bytes is None:
        return None
    leaf = leaf.detach().cpu()
    if not _is_finite(leaf):  # unchanged, so that the receiver can report the sender
        return None
    channels_last = leaf.dim() == 4 and not leaf.is_contiguous()
    channels_last = channels_last and leaf.is_contiguous(memory_format=torch.channels_last)
    arrays = codec.encode(leaf.contiguous().to(coding_type(dtype)), at)
    if arrays is None:
        return None
    payload_bytes = sum(array.nbytes for array in arrays)
    header = Header(codec.number, at.kind, dtype, shape, payload_bytes, channels_last, is_delta)
    sent = Coded(header.packed(), arrays)
    if codec.size_depends_on_values:
        return sent if sent.num_bytes < raw_bytes(shape, dtype) else None
    if sent.num_bytes != num_bytes:
        found = f"{type(codec).__name__}.encode made {payload_bytes} bytes of a tensor of shape {list(shape)}"
        raise ValueError(f"{found} and size gave {codec.size(shape, coding_type(dtype))}; make them equal")
    return sent


def _is_finite(leaf: Tensor) -> bool:
    """Whether all values are finite. A sum tells at once; if it is not, finite values may have had too large a one."""
    return bool(leaf.sum().isfinite()) or all(map(torch.isfinite, torch.aminmax(leaf)))


def decoded(codec: Codec, sent: Coded, at: Passage) -> Tensor:
    """Return the decoded tensor in its original type, shape and memory format.

    Raises:
        ValueError: for a header or arrays that do not fit one another or the codec, before anything is allocated.
    """
    header = unpacked(sent.header)
    shape, dtype = header.shape, header.dtype
    found = sum(array.nbytes for array in sent.arrays)
    wanted = coded_bytes(codec, shape, dtype)
    if wanted is None:
        raise ValueError(f"a tensor of shape {list(shape)} and type {dtype} is never sent by {type(codec).__name__}")
    most = wanted - len(sent.header)
    if found != header.payload_bytes or found > most or (found < most and not codec.size_depends_on_values):
        exact = "at most " if codec.size_depends_on_values else ""
        raise ValueError(
            f"{found} bytes follow a header that announces {header.payload_bytes}; {type(codec).__name__} of shape "
            f"{list(shape)} has {exact}{most}: the message was truncated or changed"
        )
    try:
        leaf = codec.decode(sent.arrays, shape, coding_type(dtype), at).to(dtype)
    except (ValueError, IndexError, TypeError, RuntimeError) as error:
        raise ValueError(f"{type(codec).__name__} cannot decode the message: {error}") from error
    return leaf.contiguous(memory_format=torch.channels_last) if header.channels_last else leaf


def raw_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Return the bytes of a tensor without a codec."""
    return prod(shape) * dtype.itemsize


def is_buffer(name: str) -> bool:
    """Return whether a weight of this name is a statistic or a counter of batch norm, which is never coded."""
    return name.rpartition("/")[2].rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")


def narrowed(labels: Any, num_classes: int) -> Any:
    """Return class labels in the smallest integer type for this number of classes; other tensors unchanged."""
    dtype = label_type(num_classes)
    if dtype is None or labels.dtype not in (torch.int32, torch.int64) or not labels.numel():
        return labels
    low, high = map(int, torch.aminmax(labels))
    limits = torch.iinfo(dtype)
    return labels.to(dtype) if limits.min <= low and high <= limits.max else labels


def label_type(num_classes: int) -> torch.dtype | None:
    """Return the smallest integer type that holds the labels of this number of classes, if it is below 4 bytes."""
    if num_classes <= 2**8:
        return torch.uint8
    return torch.int16 if num_classes <= 2**15 else None
