"""Affine quantization with a number of bits for each channel, more for those of a wide range.

In the idea of SplitFC (Oh et al., 2023, arXiv 2307.10805) and SL-ACC (Lin et al., 2025, arXiv 2508.12984); the
allocation is raysplit's own. With the range r of a channel (dimension 1), 0 included, over those that are not all 0:

    bits = floor(mean + log2 r - mean(log2 r) + 1/2), at least 0 and at most 8

which gives all channels about the same step. Logarithms have 16 bits behind the point and are found with integers, so
the bits are equal everywhere. Bits are sent as a byte for each channel, then steps and zeros as of `Affine` for the
channels that have bits, then the codes: those of all channels with one bit, then with two, and so on.

A channel with 0 bits is dropped: the receiver works with zeros, whatever the channel was, so that its gradient is 0.
`Kept` leaves it out of what is sent back.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from raysplit.cluster.codecs.affine import CHECKED, nearest, ranges
from raysplit.cluster.codecs.codec import Arrays, Codec, Passage, ValueCodec
from raysplit.cluster.codecs.packing import Bytes, packed, packed_bytes, unpacked
from raysplit.cluster.codecs.sparse import FLOATS

_MOST_BITS = 8
_FRACTION_BITS = 16
_IN = "channels"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Adaptive(Codec):
    """Affine quantization with a number of bits for each channel.

    Args:
        mean: the number of bits around which those of the channels lie.
    """

    number = 7
    kinds = frozenset(("smashed", "gradients"))
    size_depends_on_values = True
    mixes_rows = True
    mean: Literal[8, 4, 2] = 4

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        """Return the size if all channels had 8 bits, which is the largest."""
        return 6 * shape[1] + math.prod(shape)

    def takes(self, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
        return len(shape) > 1

    def last_bytes(self, heads: Arrays, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return _codes_bytes(heads[0], math.prod(shape) // max(1, shape[1]))

    def encode(self, values: Tensor, at: Passage) -> Arrays:
        channels = by_channel(values.numpy())  # [C, n]
        bits = allocated(channels, self.mean)
        step, zero = np.zeros(len(bits)), np.zeros(len(bits))
        codes = [np.zeros(0, np.uint8)]
        for width in range(1, _MOST_BITS + 1):
            if (here := bits == width).any():
                step[here], zero[here] = ranges(channels[here], width)
                levels = nearest(channels[here], step[here], zero[here].astype(np.uint8))
                codes.append(packed(levels, width))
        kept = bits > 0
        return bits, step[kept].astype("<f4"), zero[kept].astype(np.uint8), np.concatenate(codes)

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        bits, step, zero, codes = arrays
        size = math.prod(shape) // max(1, shape[1])
        self._require(arrays, shape)
        kept = bits > 0
        _note_kept(at, kept, shape)
        out = torch.zeros(shape[1] * size, dtype=dtype)
        channels = out.numpy().reshape(shape[1], size)
        steps, zeros = np.zeros((2, shape[1], 1), channels.dtype)
        steps[kept, 0], zeros[kept, 0] = step, zero
        begin = 0
        for width in range(1, _MOST_BITS + 1):
            if (here := bits == width).any():
                count = int(here.sum()) * size
                end = begin + packed_bytes(count, width)
                levels = unpacked(codes[begin:end], count, width).reshape(-1, size)
                channels[here] = (levels.astype(channels.dtype) - zeros[here]) * steps[here]
                begin = end
        return out.reshape(shape[1], shape[0], *shape[2:]).transpose(0, 1).contiguous()

    def choose(self, values: Tensor, at: Passage) -> None:
        """Choose the channels that are kept of these values, as if a party had received them."""
        _note_kept(at, allocated(by_channel(values.numpy()), self.mean) > 0, tuple(values.shape))

    @staticmethod
    def _require(arrays: Arrays, shape: tuple[int, ...]) -> None:
        """Refuse bits, steps, zeros and codes that do not fit one another, before anything is allocated."""
        bits, step, zero, codes = arrays
        if len(bits) != shape[1] or (len(bits) and int(bits.max()) > _MOST_BITS):
            raise ValueError(f"{len(bits)} numbers of bits for {shape[1]} channels, or more than {_MOST_BITS} bits")
        num_kept = int((bits > 0).sum())
        wanted = _codes_bytes(bits, math.prod(shape) // max(1, shape[1]))
        if len(step) != num_kept or len(zero) != num_kept or codes.nbytes != wanted:
            found = f"{len(step)} steps, {len(zero)} zeros and {codes.nbytes} bytes of codes"
            raise ValueError(f"{found} for {num_kept} channels and {wanted} bytes")
        levels = 1 << bits[bits > 0].astype(np.uint16)
        if (zero >= levels).any() or not (np.isfinite(step) & (step > 0)).all():
            raise ValueError("a zero beyond the levels of its channel, or a step that is not a positive number")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Kept(ValueCodec):
    """The gradient of smashed data of which `Adaptive` has dropped channels: a bit for each channel, and the others."""

    number = 20
    kinds = frozenset(("gradients",))
    size_depends_on_values = True
    num_heads: ClassVar[int] = 1

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return math.ceil(shape[1] / 8) + math.prod(shape) * dtype.itemsize

    def takes(self, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
        return len(shape) > 1

    def encode(self, values: Tensor, at: Passage) -> Arrays:
        kept = _noted_kept(at, tuple(values.shape))
        mask = np.ones(values.shape[1], np.bool_) if kept is None else kept
        return np.packbits(mask, bitorder="little"), values.numpy()[:, mask].astype(FLOATS[values.dtype])

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        bits, values = arrays
        mask = np.unpackbits(bits, count=shape[1], bitorder="little").view(np.bool_)
        out = torch.zeros(shape, dtype=dtype)
        out.numpy()[:, mask] = np.asarray(values).reshape(shape[0], int(mask.sum()), *shape[2:])
        return out

    def values_shape(self, heads: Arrays, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], int(np.bitwise_count(heads[0]).sum()), *shape[2:])

    def most_values(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape


def by_channel(values: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return the values [B, C, ...] of each channel, [C, n]."""
    return np.ascontiguousarray(values.swapaxes(0, 1)).reshape(values.shape[1], -1)


def allocated(channels: npt.NDArray[np.floating], mean: int) -> Bytes:
    """Return the number of bits of each channel [C, n]; 0 for one that is all 0."""
    least = np.minimum(channels.min(axis=1), 0.0, dtype=np.float64)
    most = np.maximum(channels.max(axis=1), 0.0, dtype=np.float64)
    wide = most > least
    logs, count = _log2((most - least)[wide]), int(wide.sum())
    unit = 2 * count << _FRACTION_BITS
    bits = (2 * count * logs - 2 * int(logs.sum()) + ((2 * mean + 1) * count << _FRACTION_BITS)) // max(1, unit)
    found = np.zeros(len(channels), np.uint8)
    found[wide] = bits.clip(0, _MOST_BITS)
    return found


def _log2(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the logarithms of positive numbers in units of 2**-16, by squaring integers."""
    fractions, exponents = np.frexp(numbers)
    rest = np.ldexp(fractions, 32).astype(np.uint64)  # from 2**31 on and below 2**32, for 1 to 2
    found = exponents.astype(np.int64) - 1
    for _ in range(_FRACTION_BITS):
        rest = rest * rest >> np.uint64(31)
        above = rest >> np.uint64(32)
        rest >>= above
        found = 2 * found + above.astype(np.int64)
    return found


def _codes_bytes(bits: Bytes, size: int) -> int:
    """Return the bytes of the codes of channels with these bits, each of so many values."""
    counts = np.bincount(bits, minlength=_MOST_BITS + 1)
    return sum(packed_bytes(int(counts[width]) * size, width) for width in range(1, _MOST_BITS + 1))


def _note_kept(at: Passage, kept: npt.NDArray[np.bool_], shape: tuple[int, ...]) -> None:
    """Note the channels of a value that have bits, for its gradient."""
    at.memory.passing[_IN, at.owner, at.number] = (at.step, shape, kept)


def _noted_kept(at: Passage, shape: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
    step, noted, kept = at.memory.passing.get((_IN, at.owner, at.number), (None, None, None))
    return kept if kept is not None and (step, noted) == (at.step, shape) else None
