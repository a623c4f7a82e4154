"""Product quantization: short vectors are replaced by the nearest of a few words.

Wang et al., "FedLite: A Scalable Approach for Federated Learning on Resource-constrained Clients" (2022,
arXiv 2201.11865). The words are found by k-means for each tensor and sent with it; the gradient has a codec of its own.
A correction in its idea adds a multiple of the error to the gradient, as if half its square were a part of the loss,
which draws smashed data towards the words.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from raysplit.cluster.codecs.affine import CHECKED
from raysplit.cluster.codecs.codec import Arrays, Codec, Passage, num_rows
from raysplit.cluster.codecs.packing import index_bits, packed, packed_bytes, unpacked
from raysplit.cluster.links.kinds import Kind

_ITERATIONS = 4
_ERROR = "error of words"


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ProductQuantization(Codec):
    """The rows as sequences of words from a codebook for each tensor.

    Args:
        sub: number of values of a word; rows are padded with zeros to a multiple.
        words: number of words in the codebook.
        correction: factor of (z - decoded z) / rows, added to the gradient of smashed data z where they were made.
    """

    number = 26
    kinds = frozenset(("smashed", "gradients"))
    is_portable = False
    mixes_rows = True
    sub: Annotated[int, Field(ge=1)] = 8
    words: Annotated[int, Field(ge=2, le=65536)] = 16
    correction: float = Field(default=0.0, ge=0, allow_inf_nan=False, repr=False)  # it changes no byte

    @property
    def changes_gradients(self) -> bool:
        return self.correction > 0

    def for_kind(self, kind: Kind) -> Codec:
        if self.correction and kind == "gradients":
            raise ValueError("correction is for smashed data, whose gradient it corrects; leave it out for gradients")
        return super().for_kind(kind)

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        book = dtype.itemsize * self.sub * self.words
        return book + packed_bytes(self.num_vectors(shape), index_bits(self.words))

    def takes(self, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
        return self.num_vectors(shape) >= self.words

    def encode(self, values: Tensor, at: Passage) -> Arrays:
        rows = values.numpy().reshape(num_rows(tuple(values.shape)), -1)
        vectors = np.pad(rows, ((0, 0), (0, -rows.shape[1] % self.sub))).reshape(-1, self.sub)
        words = vectors[np.sort(at.generator().choice(len(vectors), size=self.words, replace=False))]
        for _ in range(_ITERATIONS):
            words = _moved(vectors, words, _nearest(vectors, words))
        codes = packed(_nearest(vectors, words), index_bits(self.words))
        arrays = words.astype("<f8" if values.dtype is torch.float64 else "<f4"), codes
        if self.correction:
            error = values - self.decode(arrays, tuple(values.shape), values.dtype, at)
            term = error * (self.correction / num_rows(tuple(values.shape)))
            at.memory.passing[_ERROR, at.owner, at.number] = at.step, term
        return arrays

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        words, codes = arrays
        found = unpacked(codes, self.num_vectors(shape), index_bits(self.words)).astype(np.int64)
        if found.size and int(found.max()) >= self.words:
            raise ValueError(f"word {int(found.max())} is beyond the codebook of {self.words} words")
        rows = np.array(words).reshape(self.words, self.sub)[found].reshape(num_rows(shape), -1)
        row_size = math.prod(shape) // max(1, num_rows(shape))
        return torch.from_numpy(np.ascontiguousarray(rows[:, :row_size])).to(dtype).reshape(shape)

    def gradient_of_sent(self, gradient: Tensor, at: Passage) -> Tensor:
        step, term = at.memory.passing.get((_ERROR, at.owner, at.number), (None, None))
        if term is None or step != at.step or term.shape != gradient.shape:  # the smashed data went as they were
            return gradient
        corrected: Tensor = gradient + term.to(gradient)
        return corrected

    def num_vectors(self, shape: tuple[int, ...]) -> int:
        """Return the number of short vectors of a tensor of this shape."""
        rows = num_rows(shape)
        return rows * math.ceil(math.prod(shape) / max(1, rows) / self.sub)


def _nearest(vectors: npt.NDArray[np.floating], words: npt.NDArray[np.floating]) -> npt.NDArray[np.uint32]:
    """Return the index of the nearest word of each vector; of equally near ones the first."""
    distances = (words**2).sum(axis=1) - 2 * vectors @ words.T
    nearest: npt.NDArray[np.uint32] = distances.argmin(axis=1).astype(np.uint32)
    return nearest


def _moved(
    vectors: npt.NDArray[np.floating], words: npt.NDArray[np.floating], nearest: npt.NDArray[np.uint32]
) -> npt.NDArray[np.floating]:
    """Return the means of the vectors of each word; a word without vectors stays where it is."""
    counts = np.bincount(nearest, minlength=len(words))
    sums = np.stack([np.bincount(nearest, weights=column, minlength=len(words)) for column in vectors.T], axis=1)
    means = sums / np.maximum(counts, 1)[:, None]
    return np.where(counts[:, None] > 0, means, words).astype(vectors.dtype)
