"""Casts to shorter floating types, by exact or once-rounded operations only: the bits are equal on every processor."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from raysplit.cluster.codecs.codec import Arrays, Codec, Passage

_TOP = 15  # float16 ends below 2**16
_MAX_EXPONENT = {torch.float32: 126, torch.float64: 1022}  # of a factor 2**e that the type holds exactly


class Float16(Codec):
    """Half precision, scaled by a power of two so that the largest value is near the end of the range.

    x' = x 2**e with e = 15 - exponent(max |x|), rounded to nearest, ties to even; e is sent in two bytes. Scaling by a
    power of two is exact. Without it small gradients would underflow: the smallest normal float16 is 6e-5.
    """

    number: ClassVar[int] = 1

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return 2 + 2 * math.prod(shape)

    def encode(self, values: Tensor, at: Passage) -> Arrays:
        low, high = torch.aminmax(values)
        exponent = _TOP - math.frexp(max(-float(low), float(high)))[1]
        scaled = _scaled(values, exponent)
        if scaled.dtype is torch.float64:  # torch would round twice, to float32 first
            half = scaled.numpy().astype("<f2")
        else:
            half = scaled.half().numpy().astype("<f2", copy=False)
        return np.array([exponent], "<i2"), half.reshape(-1)

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        exponent, half = arrays
        halves = half if half.flags.writeable else half.copy()  # torch warns about read-only memory
        return _scaled(torch.from_numpy(halves).to(dtype), -int(exponent[0])).reshape(shape)


def _scaled(values: Tensor, exponent: int) -> Tensor:
    """Return the values times 2**exponent, rounded once at most; two factors are used if one would overflow.

    The first of two steps is exact: values are scaled down only after float16, where they are far from the smallest
    numbers of their type, and values that are scaled up stay below 2**16.
    """
    if abs(exponent) <= _MAX_EXPONENT[values.dtype]:
        return values * 2.0**exponent
    first = exponent // 2
    return values * 2.0**first * 2.0 ** (exponent - first)
