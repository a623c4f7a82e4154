"""A codec that sends the coordinates of rows in a fixed random subspace, whose basis both ends draw.

Cihangiroglu et al., "LightSplit" (2026, arXiv 2605.13265), in its idea: R has orthonormal rows, R z is sent, the
receiver works on R' R z, and gradients come back as R g.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from raysplit.cluster.codecs.affine import CHECKED
from raysplit.cluster.codecs.codec import Arrays, Passage, ValueCodec
from raysplit.options import Count
from raysplit.seeding import derive


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Subspace(ValueCodec):
    """The coordinates of each row in a random subspace.

    Args:
        size_of: number of coordinates.
    """

    number = 26
    is_portable = False
    size_of: Count = 16

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return math.prod(self.most_values(shape)) * dtype.itemsize

    def takes(self, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
        return len(shape) > 1 and math.prod(shape[1:]) > self.size_of

    def encode(self, values: Tensor, at: Passage) -> Arrays:
        rows = values.reshape(len(values), -1)
        return (np.ascontiguousarray((rows @ self._basis(rows.shape[1], rows.dtype, at).T).numpy()),)

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        coordinates = torch.from_numpy(np.array(arrays[0])).reshape(self.most_values(shape)).to(dtype)
        return (coordinates @ self._basis(math.prod(shape[1:]), dtype, at)).reshape(shape)

    def values_shape(self, heads: Arrays, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.most_values(shape)

    def most_values(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape[0], self.size_of

    def _basis(self, width: int, dtype: torch.dtype, at: Passage) -> Tensor:
        return basis(at.seed, width, self.size_of).to(dtype)


@lru_cache(maxsize=8)
def basis(seed: int, width: int, size: int) -> Tensor:
    """Return orthonormal rows R [size, width] of a random subspace, which the seed of a run gives to everybody.

    They are kept: never write to them.

    Raises:
        ValueError: the subspace has as many dimensions as the rows, or more.
    """
    if size >= width:
        raise ValueError(
            f"a projection to {size} numbers changes nothing of {width} that cross for each sample; give fewer than "
            f"{width}, or leave privacy.project out"
        )
    draws = np.random.default_rng(derive(seed, "subspace", width, size)).normal(size=(width, size))
    found, triangle = np.linalg.qr(draws)
    return torch.from_numpy(np.ascontiguousarray((found * np.sign(np.diag(triangle))).T))
