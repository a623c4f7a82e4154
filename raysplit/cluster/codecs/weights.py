"""Codecs for differences of weights: sparse ternary compression and low rank. They need error feedback.

* STC: Sattler et al., "Robust and Communication-Efficient Federated Learning from Non-IID Data" (2019, arXiv
  1903.02891): the largest values of a tensor as signs and one magnitude.
* PowerSGD: Vogels et al., "PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization" (2019,
  arXiv 1905.13727): one power step from the factor of the last round.
* Error feedback: Karimireddy et al., "Error Feedback Fixes SignSGD and other Gradient Compression Schemes" (2019,
  arXiv 1901.09847): what a codec has left out is added to the next difference.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from raysplit.cluster.codecs.affine import CHECKED
from raysplit.cluster.codecs.codec import Arrays, Codec, Passage
from raysplit.cluster.codecs.packing import index_bits, packed, packed_bytes, unpacked
from raysplit.cluster.codecs.sparse import Share, TopK
from raysplit.cluster.links.kinds import Kind

_WEIGHTS: frozenset[Kind] = frozenset(("weights",))


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class STC(Codec):
    """The largest values of a tensor as positions, signs and the mean of their magnitudes.

    Args:
        ratio: share of the values that are sent, at least one value.
    """

    number = 32
    kinds = _WEIGHTS
    needs_reference = True
    ratio: Share = 0.01

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        count, selected = math.prod(shape), self._num_selected(shape)
        return packed_bytes(selected, index_bits(count)) + packed_bytes(selected, 1) + 4

    def encode(self, values: Tensor, at: Passage) -> Arrays:
        flat = values.numpy().reshape(-1)
        selected = self._num_selected(tuple(values.shape))
        mask = TopK(ratio=self.ratio)._selected(np.abs(flat)[None], selected, at)[0]
        indices = np.flatnonzero(mask)
        magnitude = np.abs(flat[indices]).astype(np.float64).cumsum()[-1] / selected  # in the order of the indices
        return (
            packed(indices.astype(np.uint32), index_bits(len(flat))),
            np.packbits(flat[indices] >= 0, bitorder="little"),
            np.array([magnitude], "<f4"),
        )

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        positions, signs, magnitude = arrays
        count, selected = math.prod(shape), self._num_selected(shape)
        indices = unpacked(positions, selected, index_bits(count)).astype(np.int64)
        if int(indices.max()) >= count:
            raise ValueError(f"position {int(indices.max())} is beyond the {count} values of the tensor")
        out = torch.zeros(count, dtype=dtype)
        size = out.numpy().dtype.type(magnitude[0])
        out.numpy()[indices] = np.where(np.unpackbits(signs, count=selected, bitorder="little"), size, -size)
        return out.reshape(shape)

    def _num_selected(self, shape: tuple[int, ...]) -> int:
        return max(1, math.floor(self.ratio * math.prod(shape) + 0.5))


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class PowerSGD(Codec):
    """Two factors of low rank for a tensor as a matrix [rows, -1]; smaller tensors are sent unchanged.

    Args:
        rank: the rank.
    """

    number = 33
    kinds = _WEIGHTS
    needs_reference = True
    is_portable = False
    keeps_state = True
    rank: Annotated[int, Field(ge=1)] = 2

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return self.rank * (shape[0] + math.prod(shape[1:])) * dtype.itemsize

    def takes(self, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
        rows, columns = (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))
        return self.rank * (rows + columns) * 2 < rows * columns

    def encode(self, values: Tensor, at: Passage) -> Arrays:
        matrix = values.reshape(len(values), -1)
        key = f"factor/{at.destination}/{at.leaf}"
        factor = at.memory.kept.get(key)
        if factor is None or factor.shape != (matrix.shape[1], self.rank):
            draws = np.random.default_rng(at.operator_seed("power_sgd", matrix.shape[1]))
            factor = torch.from_numpy(draws.standard_normal((matrix.shape[1], self.rank))).to(values.dtype)
        left, _ = torch.linalg.qr(matrix @ factor)
        right = matrix.T @ left
        at.memory.aside[key] = right
        return left.contiguous().numpy(), right.contiguous().numpy()

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        left, right = (torch.from_numpy(np.array(array)) for array in arrays)
        return (left.reshape(-1, self.rank) @ right.reshape(-1, self.rank).T).to(dtype).reshape(shape).contiguous()


class Feedback(Codec):
    """Error feedback: what the codec has left out of a difference of weights is added to the next one.

    Args:
        codec: the codec of the differences.
    """

    kinds = _WEIGHTS
    keeps_state = True

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        self.number = codec.number  # both ends see the header of the codec
        self.needs_reference = codec.needs_reference
        self.is_portable = codec.is_portable
        self.size_depends_on_values = codec.size_depends_on_values

    def __repr__(self) -> str:
        return f"{self.codec!r} with feedback"

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return self.codec.size(shape, dtype)

    def takes(self, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
        return self.codec.takes(shape, dtype)

    def encode(self, values: Tensor, at: Passage) -> Arrays | None:
        key = f"residual/{at.destination}/{at.leaf}"
        left_out = at.memory.kept.get(key)
        wanted = values if left_out is None or left_out.shape != values.shape else values + left_out
        arrays = self.codec.encode(wanted, at)
        if arrays is not None:
            at.memory.aside[key] = wanted - self.codec.decode(arrays, tuple(values.shape), values.dtype, at)
        return arrays

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        return self.codec.decode(arrays, shape, dtype, at)
