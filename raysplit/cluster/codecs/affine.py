"""Affine quantization: b bits for each value, over the range of its group of values.

A group is the whole tensor, a row (a sample, or an output channel of weights), a channel (dimension 1) or a tile of 64
consecutive values. With L = 2**b - 1 levels above the lowest one:

    low = min(x, 0), high = max(x, 0),  step = the float32 above (high - low) / L,  1 where high = low
    zero = round(-low / step),          q = round(x / step) + zero,                 decoded (q - zero) step

0 is a level, so the zeros of a ReLU stay exact, and rounding to nearest never makes a value larger. Steps and zeros are
sent as float32 and uint8 for each group. With stochastic rounding (as in Alistarh et al., "QSGD", 2017, arXiv
1610.02132, but with the scale of the range) the mean of the decoded value is the value.
"""

from __future__ import annotations

import math
import threading
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from raysplit.cluster.codecs.codec import Arrays, Codec, Passage, num_rows
from raysplit.cluster.codecs.packing import Bytes, packed, packed_bytes, unpacked
from raysplit.cluster.links.kinds import Kind

Floats = npt.NDArray[np.floating]
CHECKED = ConfigDict(extra="forbid", strict=True)
"""The settings of a codec's parameters: checked, and nothing is converted to another type."""

_TILE = 64
_LEAST_STEP = np.finfo(np.float32).tiny
_NO_FRACTION = 1.5 * 2.0**52
_SHORT_FRACTION = 1.5 * 2.0**22
_BLOCK = 2**14


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Affine(Codec):
    """Affine quantization; a subclass has the number of bits.

    Args:
        by: what has a range of its own: ``tensor``, ``row``, ``channel`` or ``tile``.
        rounding: ``nearest``, or ``stochastic`` for gradients, which is unbiased.
    """

    bits: ClassVar[int]
    kinds = frozenset(("smashed", "gradients", "weights"))
    by: Literal["tensor", "row", "channel", "tile"] = "row"
    rounding: Literal["nearest", "stochastic"] = "nearest"

    def for_kind(self, kind: Kind) -> Codec:
        if self.rounding == "stochastic" and kind != "gradients":
            raise ValueError(f"stochastic rounding is for gradients, not for {kind}; leave rounding out")
        return super().for_kind(kind)

    @property
    def mixes_rows(self) -> bool:
        """Whether one range serves several rows."""
        return self.by != "row"

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return 5 * self._num_groups(shape) + packed_bytes(math.prod(shape), self.bits)

    def encode(self, values: Tensor, at: Passage) -> Arrays:
        groups = self._grouped(values).numpy()  # [G, n]
        step, zero = ranges(groups, self.bits)
        if self.rounding == "stochastic":
            exact = groups / step[:, None]  # float64, as the steps are
            exact += zero[:, None]
            exact += (_draws(at, groups.size).astype(np.float64).reshape(exact.shape) + 0.5) / 65536
            levels = np.floor(exact, out=exact).clip(0, 2**self.bits - 1).astype(np.uint8)
        else:  # between 0 and 2**bits - 1, because the step is above the range divided by 2**bits - 1
            levels = nearest(groups, step, zero.astype(np.uint8))
        codes = self._ungrouped(levels, tuple(values.shape))
        return step.astype("<f4"), zero.astype(np.uint8), packed(codes, self.bits)

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        step, zero, codes = arrays
        numbers = unpacked(codes, math.prod(shape), self.bits)
        out = torch.empty(math.prod(shape), dtype=dtype)
        flat = out.numpy()
        flat[:] = numbers
        aligned = (self._per_value(zero.astype(flat.dtype), shape), self._per_value(step.astype(flat.dtype), shape))
        view = flat.reshape(self._view_shape(shape)) if self.by != "tile" else flat
        np.subtract(view, aligned[0], out=view)
        np.multiply(view, aligned[1], out=view)
        return out.reshape(shape)

    # -- groups --------------------------------------------------------------------------------------------------

    def _by(self, shape: tuple[int, ...]) -> str:
        return "tensor" if len(shape) < 2 and self.by != "tile" else self.by

    def _num_groups(self, shape: tuple[int, ...]) -> int:
        by = self._by(shape)
        if by == "tile":
            return math.ceil(math.prod(shape) / _TILE)
        return {"tensor": 1, "row": num_rows(shape), "channel": shape[1] if len(shape) > 1 else 1}[by]

    def _view_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return a shape of three dimensions, of which the middle one numbers the groups."""
        by = self._by(shape)
        if by == "row":
            return 1, shape[0], math.prod(shape[1:])
        return (shape[0], shape[1], math.prod(shape[2:])) if by == "channel" else (1, 1, math.prod(shape))

    def _grouped(self, values: Tensor) -> Tensor:
        if self.by == "tile":
            flat = values.reshape(-1)
            return torch.nn.functional.pad(flat, (0, -len(flat) % _TILE)).view(-1, _TILE)
        first, groups, rest = self._view_shape(tuple(values.shape))
        view = values.reshape(first, groups, rest)
        return (view.transpose(0, 1) if first > 1 else view).reshape(groups, first * rest)

    def _ungrouped(self, codes: npt.NDArray[np.uint8], shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        if self.by == "tile":
            return codes.reshape(-1)[: math.prod(shape)]
        first, groups, rest = self._view_shape(shape)
        return codes.reshape(groups, first, rest).transpose(1, 0, 2).reshape(-1) if first > 1 else codes.reshape(-1)

    def _per_value(self, group_values: npt.NDArray[np.floating], shape: tuple[int, ...]) -> npt.NDArray[np.floating]:
        if self.by == "tile":
            return np.repeat(group_values, _TILE)[: math.prod(shape)]
        return group_values[None, :, None]


def ranges(groups: Floats, bits: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the step, with the value of a float32, and the level of 0 of each group [G, n]."""
    least = np.minimum(groups.min(axis=1), 0.0, dtype=np.float64)
    most = np.maximum(groups.max(axis=1), 0.0, dtype=np.float64)
    wanted = ((most - least) / (2**bits - 1)).astype(np.float32)
    step = np.maximum(np.nextafter(wanted, np.float32(np.inf)), _LEAST_STEP).astype(np.float64)
    step[most == least] = 1.0
    return step, np.rint(-least / step)


def nearest(groups: Floats, step: npt.NDArray[np.float64], zero: Bytes) -> Bytes:
    """Return the groups [G, n] divided by their steps and rounded to the nearest integers, ties to even, plus ``zero``.

    With 1.5 * 2**52 added, a float64 has no bits behind the point, and its last bits are those of the integer. A
    division takes longest of all. The quotient of two float32 that is not halfway between two integers is more than
    2**-26 away from there, so the product with the inverse has the same nearest integer once it has only 30 bits behind
    the point. Blocks stay in the cache, in memory that is used again; new memory would cost as much as the computing.
    """
    levels = np.empty(groups.shape, np.uint8)
    columns = max(1, min(groups.shape[1], _BLOCK))
    rows = _BLOCK // columns
    is_short = groups.dtype != np.float64
    factor, zero = (1 / step if is_short else step)[:, None], zero[:, None]
    for i in range(0, len(groups), rows):
        for j in range(0, groups.shape[1], columns):
            block, out = groups[i : i + rows, j : j + columns], levels[i : i + rows, j : j + columns]
            exact = _scratch.values[: block.size].reshape(block.shape)
            np.copyto(exact, block)
            if is_short:
                exact *= factor[i : i + rows]
                exact += _SHORT_FRACTION
                exact += _NO_FRACTION - _SHORT_FRACTION
            else:
                exact /= factor[i : i + rows]
                exact += _NO_FRACTION
            np.copyto(out, exact.view(np.int64), casting="unsafe")
            out += zero[i : i + rows]
    return levels


class _Scratch(threading.local):
    """Memory of each thread for a block of values."""

    def __init__(self) -> None:
        self.values = np.empty(_BLOCK, np.float64)


_scratch = _Scratch()


def _draws(at: Passage, count: int) -> npt.NDArray[np.uint16]:
    """Draw 16-bit numbers from the stream of a tensor, four from each draw of 64 bits."""
    draws = at.generator().integers(0, 2**64, size=math.ceil(count / 4), dtype=np.uint64)
    return draws.astype("<u8").view("<u2")[:count]


class Int8(Affine):
    """Affine quantization with 8 bits."""

    number = 4
    bits: ClassVar[int] = 8


class Int4(Affine):
    """Affine quantization with 4 bits."""

    number = 5
    bits: ClassVar[int] = 4


class Int2(Affine):
    """Affine quantization with 2 bits."""

    number = 6
    bits: ClassVar[int] = 2
