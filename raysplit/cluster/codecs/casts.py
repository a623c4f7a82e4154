"""Casts to shorter floating types, by exact or once-rounded operations only: the bits are equal on every processor."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from raysplit.cluster.codecs.codec import Arrays, Codec, Passage

_MAX_EXPONENT = {torch.float32: 126, torch.float64: 1022}  # of a factor 2**e that the type holds exactly


class _Scaled(Codec):
    """A cast after a multiplication by the power of two that brings the largest value near the end of the range.

    x' = x 2**e with e = top - exponent(max |x|), rounded to nearest, ties to even; e is sent in two bytes. Scaling by a
    power of two is exact. Without it small gradients would underflow: the smallest normal float16 is 6e-5.
    """

    kinds = frozenset(("smashed", "gradients", "weights"))
    top: ClassVar[int]
    cast: ClassVar[torch.dtype]
    item: ClassVar[str]

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return 2 + self.cast.itemsize * math.prod(shape)

    def encode(self, values: Tensor, at: Passage) -> Arrays | None:
        exponent = self._exponent(values)
        scaled = _scaled(values, exponent)
        if scaled.dtype is torch.float64:
            scaled = _odd(scaled)  # or two roundings, to float32 first, would not be those of one
        cast = scaled.to(self.cast).reshape(-1).view(torch.uint8).numpy().view(self.item)
        return np.array([exponent], "<i2"), cast

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        exponent, cast = arrays
        raw = torch.from_numpy(np.array(cast).view(np.uint8))  # a copy: torch warns about read-only memory
        return _scaled(raw.view(self.cast).to(dtype), -int(exponent[0])).reshape(shape)

    def _exponent(self, values: Tensor) -> int:
        low, high = torch.aminmax(values)
        return self.top - math.frexp(max(-float(low), float(high)))[1]


class Float16(_Scaled):
    """Half precision, scaled by a power of two."""

    number = 1
    top: ClassVar[int] = 15  # float16 ends below 2**16
    cast: ClassVar[torch.dtype] = torch.float16
    item: ClassVar[str] = "<f2"


class BFloat16(_Scaled):
    """The first half of float32: its range and 8 bits of precision; nothing is scaled."""

    number = 2
    cast: ClassVar[torch.dtype] = torch.bfloat16
    item: ClassVar[str] = "<u2"

    def encode(self, values: Tensor, at: Passage) -> Arrays | None:
        largest = torch.finfo(torch.bfloat16).max
        if values.abs().max() > largest:  # it would be rounded to infinity
            return None
        return super().encode(values, at)

    def _exponent(self, values: Tensor) -> int:
        return 0


class Float8(_Scaled):
    """Eight bits, 4 of them exponent (e4m3), scaled by a power of two."""

    number = 3
    top: ClassVar[int] = 8  # float8 ends at 448
    cast: ClassVar[torch.dtype] = torch.float8_e4m3fn
    item: ClassVar[str] = "u1"


def _odd(values: Tensor) -> Tensor:
    """Round float64 to float32 towards zero, and set the last bit where that is not exact.

    A cast of the result to a type that is shorter by two bits or more is then rounded once.
    """
    near = values.float()
    exact = near.double() == values
    beyond = near.double().abs() > values.abs()
    toward = torch.where(beyond, torch.nextafter(near, torch.zeros_like(near)), near)
    return torch.where(exact, near, (toward.view(torch.int32) | 1).view(torch.float32))


def _scaled(values: Tensor, exponent: int) -> Tensor:
    """Return the values times 2**exponent, rounded once at most; two factors are used if one would overflow.

    The first of two steps is exact: values are scaled down only after the cast, where they are far from the smallest
    numbers of their type, and values that are scaled up stay below 2**16.
    """
    if exponent == 0:
        return values
    if abs(exponent) <= _MAX_EXPONENT[values.dtype]:
        return values * 2.0**exponent
    first = exponent // 2
    return values * 2.0**first * 2.0 ** (exponent - first)
