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
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ConfigDict
from pydantic.dataclasses import dataclass
from torch import Tensor

from raysplit.cluster.codecs.codec import Arrays, Codec, Passage, num_rows
from raysplit.cluster.codecs.packing import packed, packed_bytes, unpacked
from raysplit.cluster.links.kinds import Kind

CHECKED = ConfigDict(extra="forbid", strict=True)
"""The settings of a codec's parameters: checked, and nothing is converted to another type."""

_TILE = 64
_LEAST_STEP = np.finfo(np.float32).tiny
_NO_FRACTION = 1.5 * 2.0**52


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
        groups = self._grouped(values)  # [G, n]
        step, zero = ranges(groups, self.bits)
        exact = groups.to(torch.float64, copy=True).div_(step[:, None])
        if self.rounding == "stochastic":
            exact += zero[:, None]
            exact += (torch.from_numpy(_draws(at, groups.numel()).astype(np.float64)).view_as(exact) + 0.5) / 65536
            levels = exact.floor_().clamp_(0, 2**self.bits - 1).to(torch.uint8)
        else:  # between 0 and 2**bits - 1, because the step is above the range divided by 2**bits - 1
            levels = _low_bytes(exact).add_(zero.to(torch.uint8)[:, None])
        codes = self._ungrouped(levels.numpy(), tuple(values.shape))
        return step.numpy().astype("<f4"), zero.numpy().astype(np.uint8), packed(codes, self.bits)

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


def ranges(groups: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Return the step (float64 with the value of a float32) and the level of 0 of each group [G, n]."""
    low, high = groups.amin(dim=1), groups.amax(dim=1)  # both together are ten times slower
    least, most = np.minimum(low.double().numpy(), 0.0), np.maximum(high.double().numpy(), 0.0)
    wanted = ((most - least) / (2**bits - 1)).astype(np.float32)
    step = np.maximum(np.nextafter(wanted, np.float32(np.inf)), _LEAST_STEP).astype(np.float64)
    step = np.where(most > least, step, 1.0)
    return torch.from_numpy(step), torch.from_numpy(np.rint(-least / step))


def _low_bytes(exact: Tensor) -> Tensor:
    """Round to the nearest integers, ties to even, and return them modulo 256. ``exact`` [G, n], float64, is changed.

    With 1.5 * 2**52 added, a float64 has no bits behind the point, and its last bits are those of the integer.
    """
    return exact.add_(_NO_FRACTION).view(torch.int64).to(torch.uint8)


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
