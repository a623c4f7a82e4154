"""Sparse codecs: the largest values of each row, a random variation of it, and the values that are not zero.

Zheng et al., "Reducing Communication for Split Learning by Randomized Top-k Sparsification" (2023, arXiv 2305.18469).
The gradient of selected smashed data is that of the selected positions, which the owner knows: it is sent without
positions. Weights have one row, the whole tensor.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from raysplit.cluster.codecs.affine import CHECKED, Int8
from raysplit.cluster.codecs.codec import Arrays, Codec, Passage, ValueCodec, num_rows
from raysplit.cluster.codecs.packing import index_bits, packed, packed_bytes, unpacked
from raysplit.cluster.links.kinds import Kind

Mask = npt.NDArray[np.bool_]
Share = Annotated[float, Field(gt=0, le=1)]
Values = Literal["float32", "float16", "int8"]
_FLOAT16_MAX = 65504.0
FLOATS = {torch.float32: "<f4", torch.float64: "<f8"}


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TopK(ValueCodec):
    """The largest values of each row; all others become 0.

    Of equal values the first ones are kept. Positions are sent as indices, or as a bit for each value where that is
    smaller.

    Args:
        ratio: share of the values of a row that are sent, at least one value.
        by: what a row is: ``row`` a sample, ``tensor`` the whole tensor, as for weights.
        values: type of the values that are sent; ``int8`` has one range for all of them.
        gradient: of smashed data: ``through`` sends the gradient of the selected positions only, ``own`` sends it by
            the codec of gradients. The default is ``through`` unless gradients have a codec.
    """

    number = 16
    kinds = frozenset(("smashed", "gradients", "weights"))
    needs_reference = True
    num_heads: ClassVar[int] = 1
    ratio: Share = 0.1
    by: Literal["row", "tensor"] = "row"
    values: Values = "float32"
    gradient: Literal["own", "through"] | None = None

    def for_kind(self, kind: Kind) -> Codec:
        super().for_kind(kind)
        if kind != "smashed" and self.gradient == "through":
            raise ValueError(f"gradient: through is for a codec of smashed data, not for {kind}; leave it out")
        return replace(self, by="tensor") if kind == "weights" else self

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        rows, k, row_size = self._rows(shape)
        return self._position_bytes(rows, k, row_size) + _values_bytes(self.values, rows * k, dtype)

    def encode(self, values: Tensor, at: Passage) -> Arrays | None:
        rows, k, row_size = self._rows(tuple(values.shape))
        flat = values.numpy().reshape(rows, row_size)
        mask = self._selected(np.abs(flat), k, at)
        sent = _sent(self.values, flat[mask], values.dtype, at)
        if sent is None:
            return None
        _note(at, "out", mask)
        return self._positions(mask, k), *sent

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        positions, *sent = arrays
        rows, k, row_size = self._rows(shape)
        mask = np.zeros((rows, row_size), np.bool_)
        if self._is_bitmap(rows, k, row_size):
            mask = np.unpackbits(positions, count=rows * row_size, bitorder="little").reshape(rows, row_size).view(bool)
        else:
            indices = unpacked(positions, rows * k, index_bits(row_size)).reshape(rows, k).astype(np.int64)
            if indices.size and int(indices.max()) >= row_size:
                raise ValueError(f"position {int(indices.max())} is beyond the {row_size} values of a row")
            np.put_along_axis(mask, indices, True, axis=1)
        if int(mask.sum()) != rows * k:
            raise ValueError(f"{int(mask.sum())} positions are selected instead of {rows * k}")
        _note(at, "in", mask)
        return filled(mask, _received(self.values, sent, rows * k, dtype, at), shape, dtype)

    def values_shape(self, heads: Arrays, shape: tuple[int, ...]) -> tuple[int, ...]:
        rows, k, _ = self._rows(shape)
        return (rows * k,)

    def most_values(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.values_shape((), shape)

    def _rows(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the number of rows, of selected values in each, and of values in each."""
        rows = num_rows(shape) if self.by == "row" else 1
        row_size = math.prod(shape) // max(1, rows)
        return rows, max(1, math.floor(self.ratio * row_size + 0.5)), row_size

    def _selected(self, sizes: npt.NDArray[np.floating], k: int, at: Passage) -> Mask:
        if k >= sizes.shape[1]:
            return np.ones(sizes.shape, np.bool_)
        least = np.partition(sizes, sizes.shape[1] - k, axis=1)[:, sizes.shape[1] - k, None]
        mask: Mask = sizes > least
        equal = sizes == least
        free = k - mask.sum(axis=1, keepdims=True)
        mask |= equal & (np.cumsum(equal, axis=1) <= free)
        return mask

    def _is_bitmap(self, rows: int, k: int, row_size: int) -> bool:
        return (rows * row_size + 7) // 8 < packed_bytes(rows * k, index_bits(row_size))

    def _position_bytes(self, rows: int, k: int, row_size: int) -> int:
        return min((rows * row_size + 7) // 8, packed_bytes(rows * k, index_bits(row_size)))

    def _positions(self, mask: Mask, k: int) -> npt.NDArray[np.uint8]:
        rows, row_size = mask.shape
        if self._is_bitmap(rows, k, row_size):
            return np.packbits(mask.reshape(-1), bitorder="little")
        return packed(np.nonzero(mask)[1].astype(np.uint32), index_bits(row_size))


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class RandTopK(TopK):
    """Top-k in which some of the selected values are drawn from the others.

    Of the k values of a row, a number that is drawn from Binomial(k, alpha) comes from outside of the k largest. The
    model is evaluated with plain top-k.

    Args:
        alpha: expected share of the selected values that are not among the largest.
    """

    number = 17
    kinds = frozenset(("smashed", "gradients"))
    alpha: Annotated[float, Field(ge=0, le=1)] = 0.1

    def in_evaluation(self) -> Codec:
        return TopK(ratio=self.ratio, by=self.by, values=self.values, gradient=self.gradient)

    def _selected(self, sizes: npt.NDArray[np.floating], k: int, at: Passage) -> Mask:
        largest = super()._selected(sizes, k, at)
        rows, row_size = sizes.shape
        if self.alpha == 0 or k >= row_size:
            return largest
        draws = at.generator()
        outside = np.minimum(draws.binomial(k, self.alpha, size=(rows, 1)), row_size - k)
        keys = draws.random(sizes.shape)
        return np.where(
            largest,
            _ranks_below(np.where(largest, keys, 2.0), k - outside, k),
            _ranks_below(np.where(largest, 2.0, keys), outside, int(outside.max())),
        )


def _ranks_below(keys: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], most: int) -> Mask:
    """Mark the ``counts`` [B, 1] smallest keys of each row [B, D]; ``most`` is the largest count."""
    mask = np.zeros(keys.shape, np.bool_)
    if most == 0:
        return mask
    columns = np.argpartition(keys, most - 1, axis=1)[:, :most]
    order = np.argsort(np.take_along_axis(keys, columns, axis=1), axis=1, kind="stable")
    np.put_along_axis(mask, np.take_along_axis(columns, order, axis=1), np.arange(most)[None, :] < counts, axis=1)
    return mask


class Selected(ValueCodec):
    """The gradient of smashed data that `TopK` has selected: its values at the selected positions, without positions.

    Args:
        of: codec of the smashed data.
    """

    number = 18
    kinds = frozenset(("gradients",))

    def __init__(self, of: TopK) -> None:
        self._of = of

    def __repr__(self) -> str:
        return f"Selected(of={self._of!r})"

    def choose(self, values: Tensor, at: Passage) -> None:
        """Choose the positions of values, as if a party had received smashed data and sent them."""
        rows, k, row_size = self._of._rows(tuple(values.shape))
        mask = self._of._selected(np.abs(values.numpy().reshape(rows, row_size)), k, at)
        _note(at, "in", mask)
        _note(at, "out", mask)

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return _values_bytes(self._of.values, math.prod(self.most_values(shape)), dtype)

    def encode(self, values: Tensor, at: Passage) -> Arrays | None:
        mask = _noted(at, "in")
        if mask is None or mask.size != values.numel():  # the smashed data went unchanged
            return None
        return _sent(self._of.values, values.numpy().reshape(mask.shape)[mask], values.dtype, at)

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        mask = _noted(at, "out")
        mask = _noted(at, "in") if mask is None else mask
        if mask is None or mask.size != math.prod(shape):
            raise ValueError(f"{at.destination} has not selected the positions of this gradient from {at.source}")
        return filled(mask, _received(self._of.values, arrays, int(mask.sum()), dtype, at), shape, dtype)

    def values_shape(self, heads: Arrays, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._of.most_values(shape)

    def most_values(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._of.most_values(shape)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Bitmap(ValueCodec):
    """A bit for each value, and the values that are not zero: lossless by itself, for the outputs of a ReLU."""

    number = 19
    lossy = False
    size_depends_on_values = True
    num_heads: ClassVar[int] = 1

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return math.ceil(math.prod(shape) / 8) + math.prod(shape) * dtype.itemsize

    def encode(self, values: Tensor, at: Passage) -> Arrays:
        flat = values.numpy().reshape(-1)
        mask = flat.view(np.dtype(f"i{flat.itemsize}")) != 0  # by bits, so that -0.0 stays what it is
        return np.packbits(mask, bitorder="little"), flat[mask].astype(FLOATS[values.dtype], copy=False)

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        bits, values = arrays
        mask = np.unpackbits(bits, count=math.prod(shape), bitorder="little").view(np.bool_)
        return filled(mask, values, shape, dtype)

    def values_shape(self, heads: Arrays, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (int(np.bitwise_count(heads[0]).sum()),)

    def most_values(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (math.prod(shape),)


def _values_bytes(values: Values, count: int, dtype: torch.dtype) -> int:
    return {"float32": count * dtype.itemsize, "float16": 2 * count, "int8": 5 + count}[values]


def _sent(values: Values, chosen: npt.NDArray[np.floating], dtype: torch.dtype, at: Passage) -> Arrays | None:
    """Return the arrays of the chosen values, or None where float16 cannot hold them."""
    if values == "int8":
        return Int8(by="tensor").encode(torch.from_numpy(chosen), at)
    if values == "float16":
        return (chosen.astype("<f2"),) if np.abs(chosen).max(initial=0) <= _FLOAT16_MAX else None
    return (chosen.astype(FLOATS[dtype], copy=False),)


def _received(values: Values, arrays: Arrays, count: int, dtype: torch.dtype, at: Passage) -> npt.NDArray[np.floating]:
    if values == "int8":
        return Int8(by="tensor").decode(arrays, (count,), dtype, at).numpy()
    return np.asarray(arrays[0]).reshape(-1)


def filled(mask: Mask, values: npt.NDArray[Any], shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a tensor of zeros with these values at the marked positions."""
    out = torch.zeros(math.prod(shape), dtype=dtype)
    out.numpy()[mask.reshape(-1)] = values
    return out.reshape(shape)


def _note(at: Passage, way: str, mask: Mask) -> None:
    at.memory.passing[way, at.owner, at.number] = (at.step, mask)


def _noted(at: Passage, way: str) -> Mask | None:
    step, mask = at.memory.passing.get((way, at.owner, at.number), (None, None))
    return mask if mask is not None and step == at.step else None
