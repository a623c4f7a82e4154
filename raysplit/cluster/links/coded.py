"""The format of a coded tensor on a link: a header that describes the tensor, and the arrays of its codec.

The header is little-endian and has 8 bytes, and 4 more for each dimension:

    offset  0  number of the codec          4  payload bytes, uint32
            1  flags and kind               8  shape, uint32 each
            2  data type
            3  dimensions

Bit 2 of the flags marks a difference to weights that both ends have. Bit 3 marks a tensor that was channels-last in
memory, because kernels differ by memory format; bits 4 to 6 are the number of the kind. The other bits are 0. The
parameters of a codec are configuration, equal at both ends, and not sent. A tensor that is not coded has no header.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy.typing as npt
import torch

from raysplit.cluster.links.kinds import KINDS, Kind

_FIELDS = struct.Struct("<BBBBI")
_IS_DELTA = 1 << 2
_CHANNELS_LAST = 1 << 3
_UNUSED = 0b1000_0011
_KIND_SHIFT = 4
MAX_PAYLOAD_BYTES = 2**32 - 1
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""The types that can be coded, each at its number in the header; integers and booleans are sent unchanged."""


class Header(NamedTuple):
    """The description of a coded tensor."""

    codec: int
    kind: Kind
    dtype: torch.dtype
    shape: tuple[int, ...]
    payload_bytes: int
    channels_last: bool = False
    is_delta: bool = False

    def packed(self) -> bytes:
        flags = _CHANNELS_LAST * self.channels_last | _IS_DELTA * self.is_delta | KINDS.index(self.kind) << _KIND_SHIFT
        fields = (self.codec, flags, DTYPES.index(self.dtype), len(self.shape), self.payload_bytes)
        return _FIELDS.pack(*fields) + struct.pack(f"<{len(self.shape)}I", *self.shape)


def unpacked(header: bytes) -> Header:
    """Return the description in a header.

    Raises:
        ValueError: for bytes that no sender writes.
    """
    if len(header) < _FIELDS.size:
        raise ValueError(f"a header has at least {_FIELDS.size} bytes, got {len(header)}: the message was truncated")
    codec, flags, dtype, num_dimensions, payload_bytes = _FIELDS.unpack_from(header)
    kind = flags >> _KIND_SHIFT & 7
    if len(header) != header_bytes(num_dimensions) or flags & _UNUSED or kind >= len(KINDS) or dtype >= len(DTYPES):
        raise ValueError(
            f"a header of {len(header)} bytes has flags {flags:#x}, type {dtype} and {num_dimensions} dimensions, "
            f"which no sender writes: the message was truncated or changed"
        )
    shape = struct.unpack_from(f"<{num_dimensions}I", header, _FIELDS.size)
    is_last, is_delta = bool(flags & _CHANNELS_LAST), bool(flags & _IS_DELTA)
    return Header(codec, KINDS[kind], DTYPES[dtype], shape, payload_bytes, is_last, is_delta)


def header_bytes(num_dimensions: int) -> int:
    """Return the size in bytes of the header of a tensor with this many dimensions."""
    return _FIELDS.size + 4 * num_dimensions


class Coded:
    """A coded tensor in transit; ``num_bytes`` counts the header and the arrays."""

    __slots__ = ("arrays", "header", "num_bytes")

    def __init__(self, header: bytes, arrays: Sequence[npt.NDArray[Any]]) -> None:
        self.header = header
        self.arrays = tuple(arrays)
        self.num_bytes = len(header) + sum(array.nbytes for array in self.arrays)

    def __reduce__(self) -> tuple[type[Coded], tuple[bytes, tuple[npt.NDArray[Any], ...]]]:
        return Coded, (self.header, self.arrays)


class CodedSize:
    """The simulation's stand-in for a coded tensor: its coded bytes, and the uncoded size that arrives."""

    __slots__ = ("num_bytes", "size")

    def __init__(self, size: Any, num_bytes: int) -> None:
        self.size = size
        self.num_bytes = num_bytes
