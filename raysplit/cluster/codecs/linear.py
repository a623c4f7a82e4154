"""Linear codecs: sums of several rows under keys, projections, and subspaces. None is chosen automatically.

* C3-SL: Hsieh et al., "C3-SL: Circular Convolution-Based Batch-Wise Compression for Communication-Efficient Split
  Learning" (2022, arXiv 2207.12397). R rows of a batch are added up, each convolved with a key of its own; correlation
  with the key gives the row back, with the other rows as noise.
* A subsampled randomized Hadamard transform of each row, decoded by its transpose.
* LightSplit: Cihangiroglu et al. (2026, arXiv 2605.13265), in its idea: R has orthonormal rows that both ends draw, R z
  is sent, the receiver works on R' R z, and gradients come back as R g.

Decoding is the adjoint of encoding, so coding the gradient with the same operator is the chain rule.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from raysplit.cluster.codecs.affine import CHECKED
from raysplit.cluster.codecs.codec import Arrays, Passage, ValueCodec, num_rows
from raysplit.cluster.codecs.sparse import Share
from raysplit.options import Count
from raysplit.seeding import derive

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class C3(ValueCodec):
    """Sums of rows under circular convolution with keys.

    Args:
        rows: number R of rows that are added up.
        keys: ``gaussian`` as in the paper, or ``unitary``, with which a row is no noise to itself.
    """

    number = 24
    is_portable = False
    mixes_rows = True
    rows: Annotated[int, Field(ge=1)] = 8
    keys: Literal["gaussian", "unitary"] = "gaussian"

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return math.prod(self.most_values(shape)) * dtype.itemsize

    def takes(self, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
        return len(shape) > 1

    def encode(self, values: Tensor, at: Passage) -> Arrays:
        import scipy.fft  # only runs with this codec load it in every place

        rows = values.numpy().reshape(len(values), -1)
        rows = np.pad(rows, ((0, -len(rows) % self.rows), (0, 0)))
        grouped = scipy.fft.rfft(rows.reshape(-1, self.rows, rows.shape[1]))  # [G, R, D/2 + 1]
        summed = (grouped * self._spectra(rows, at)).sum(axis=1)
        return (scipy.fft.irfft(summed, n=rows.shape[1]).astype(rows.dtype, copy=False),)

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        import scipy.fft

        sums = np.array(arrays[0]).reshape(self.most_values(shape))
        back = scipy.fft.rfft(sums)[:, None, :] * np.conj(self._spectra(sums, at))
        rows = scipy.fft.irfft(back, n=sums.shape[1]).astype(sums.dtype, copy=False).reshape(-1, sums.shape[1])
        return torch.from_numpy(np.ascontiguousarray(rows[: shape[0]])).to(dtype).reshape(shape)

    def values_shape(self, heads: Arrays, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.most_values(shape)

    def most_values(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return math.ceil(shape[0] / self.rows), math.prod(shape[1:])

    def _spectra(self, values: Floats, at: Passage) -> npt.NDArray[np.complexfloating]:
        size = values.shape[1]
        found = _key_spectra(at.operator_seed("c3", size), self.rows, size, self.keys == "unitary")
        return found.astype(np.complex64 if values.dtype == np.float32 else np.complex128)


@lru_cache(maxsize=16)
def _key_spectra(seed: int, count: int, size: int, unitary: bool) -> npt.NDArray[np.complex128]:
    import scipy.fft

    keys = np.random.default_rng(seed).normal(0, math.sqrt(1 / size), (count, size))
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    spectra: npt.NDArray[np.complex128] = scipy.fft.rfft(keys)
    return spectra / np.abs(spectra) if unitary else spectra


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Project(ValueCodec):
    """Some coordinates of each row after random signs and a Hadamard transform.

    Args:
        ratio: number of coordinates in proportion to the values of a row.
    """

    number = 25
    is_portable = False
    ratio: Share = 0.125

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return math.prod(self.most_values(shape)) * dtype.itemsize

    def encode(self, values: Tensor, at: Passage) -> Arrays:
        rows, size, _ = self._dimensions(tuple(values.shape))
        signs, chosen = self._operator(size, at)
        mixed = _hadamard(values.reshape(rows, size).numpy() * signs.astype(_numpy(values.dtype)), len(_padded(size)))
        return (np.ascontiguousarray(mixed[:, chosen]),)

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        rows, size, count = self._dimensions(shape)
        signs, chosen = self._operator(size, at)
        spread = np.zeros((rows, len(_padded(size))), _numpy(dtype))
        spread[:, chosen] = np.array(arrays[0]).reshape(rows, count)
        back = _hadamard(spread, spread.shape[1])[:, :size] * signs.astype(spread.dtype)
        return torch.from_numpy(np.ascontiguousarray(back)).reshape(shape)

    def values_shape(self, heads: Arrays, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.most_values(shape)

    def most_values(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        rows, _, count = self._dimensions(shape)
        return rows, count

    def _dimensions(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        rows = num_rows(shape)
        size = math.prod(shape) // max(1, rows)
        return rows, size, max(1, math.floor(self.ratio * size + 0.5))

    def _operator(self, size: int, at: Passage) -> tuple[Floats, npt.NDArray[np.int64]]:
        return _operator(at.operator_seed("project", size), size, max(1, math.floor(self.ratio * size + 0.5)))


@lru_cache(maxsize=16)
def _operator(seed: int, size: int, count: int) -> tuple[Floats, npt.NDArray[np.int64]]:
    draws = np.random.default_rng(seed)
    signs = draws.integers(0, 2, size) * 2.0 - 1
    return signs, np.sort(draws.choice(len(_padded(size)), size=count, replace=False))


def _padded(size: int) -> range:
    return range(1 << (size - 1).bit_length())


def _hadamard(rows: Floats, size: int) -> Floats:
    """Apply the orthonormal Hadamard matrix to rows, padded to ``size`` = 2**d, as two products of small matrices."""
    low = 1 << (size.bit_length() // 2)
    left, right = _matrix(size // low, rows.dtype), _matrix(low, rows.dtype)
    filled = np.pad(rows, ((0, 0), (0, size - rows.shape[1]))).reshape(len(rows), size // low, low)
    return np.asarray(left @ filled @ right).reshape(len(rows), size)


@lru_cache(maxsize=32)
def _matrix(size: int, dtype: np.dtype[np.floating]) -> Floats:
    import scipy.linalg

    found: Floats = (scipy.linalg.hadamard(size) / math.sqrt(size)).astype(dtype)
    return found


def _numpy(dtype: torch.dtype) -> type[np.floating]:
    return np.float64 if dtype is torch.float64 else np.float32


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Subspace(ValueCodec):
    """The coordinates of each row in a random subspace.

    Args:
        size_of: number of coordinates.
    """

    number = 27
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
