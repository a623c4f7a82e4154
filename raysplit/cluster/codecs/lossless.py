"""Lossless compression, as the end of a chain of codecs or by itself, and the chain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from raysplit.cluster.codecs.affine import CHECKED
from raysplit.cluster.codecs.codec import Arrays, Codec, Passage, ValueCodec
from raysplit.cluster.links.kinds import Kind

_EVERY: frozenset[Kind] = frozenset(("smashed", "gradients", "weights"))


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Zstd(Codec):
    """Zstandard, level 1: of float values by itself, and of codes at the end of a chain.

    The bytes depend on the version of the library, the values never do. They are kept only if they are smaller.
    """

    number = 40
    kinds = _EVERY
    lossy = False
    size_depends_on_values = True

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return math.prod(shape) * dtype.itemsize

    def encode(self, values: Tensor, at: Passage) -> Arrays | None:
        raw = values.numpy().reshape(-1).view(np.uint8)
        small = compressed(raw)
        return (small,) if small.nbytes < raw.nbytes else None

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        raw = decompressed(arrays[0], self.size(shape, dtype))
        return torch.from_numpy(raw).view(dtype).reshape(shape)


def compressed(raw: np.ndarray) -> np.ndarray:
    """Return the compressed bytes of an array."""
    import pyarrow as pa  # only runs with this codec load it in every place

    data = pa.Codec("zstd", compression_level=1).compress(np.ascontiguousarray(raw).reshape(-1).view(np.uint8))
    return np.frombuffer(data, np.uint8)


def decompressed(data: np.ndarray, num_bytes: int) -> np.ndarray:
    """Return exactly ``num_bytes`` in new memory. Raises ``ValueError`` for other content."""
    import pyarrow as pa

    try:
        raw = pa.Codec("zstd").decompress(np.ascontiguousarray(data), decompressed_size=num_bytes)
    except (OSError, ValueError) as error:
        raise ValueError(f"it is not a zstd stream of {num_bytes} bytes: {error}") from error
    found = np.frombuffer(raw, np.uint8).copy()
    if len(found) != num_bytes:
        raise ValueError(f"the zstd stream has {len(found)} bytes instead of {num_bytes}")
    return found


class Chain(Codec):
    """Several codecs one after the other: each encodes the last array of the one before it.

    All but the last two select or transform values (`ValueCodec`), then one may quantize them, and `Zstd` may end the
    chain. Codes are compressed only if that makes them smaller.

    Args:
        codecs: at least two codecs.

    Raises:
        ValueError: for codecs that do not fit one another.
    """

    def __init__(self, codecs: Sequence[Codec]) -> None:
        if isinstance(codecs[0], Zstd):
            raise ValueError("a chain begins with a codec for values; give zstd alone, or put it at the end")
        self._ends_lossless = isinstance(codecs[-1], Zstd)
        self.codecs = tuple(codecs)
        self._coding = self.codecs[:-1] if self._ends_lossless else self.codecs
        for before, after in zip(self._coding, self._coding[1:], strict=False):
            names = type(before).__name__, type(after).__name__
            if isinstance(after, Zstd):
                raise ValueError("Zstd compresses codes, which nothing encodes further; put it at the end of the chain")
            if getattr(before, "values", "float32") != "float32":
                raise ValueError(f"{names[0]} already codes its values; leave out values or {names[1]}")
            if not isinstance(before, ValueCodec):
                raise ValueError(f"{names[0]} makes codes, which {names[1]} cannot encode; leave {names[1]} out")
            if after.changes_gradients:
                raise ValueError(f"{names[1]} corrects gradients of what it codes; leave out {names[0]} or correction")
        self.number = self.codecs[0].number
        self.kinds = frozenset.intersection(*[codec.kinds for codec in self.codecs])
        self.lossy = any(codec.lossy for codec in self.codecs)
        self.size_depends_on_values = any(c.size_depends_on_values for c in self.codecs)
        self.needs_reference = any(codec.needs_reference for codec in self.codecs)
        self.is_portable = all(codec.is_portable for codec in self.codecs)
        self.keeps_state = any(codec.keeps_state for codec in self.codecs)

    @property
    def mixes_rows(self) -> bool:
        return any(codec.mixes_rows for codec in self.codecs)

    @property
    def changes_gradients(self) -> bool:
        return self.codecs[0].changes_gradients

    def gradient_of_sent(self, gradient: Tensor, at: Passage) -> Tensor:
        return self.codecs[0].gradient_of_sent(gradient, at)

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self.codecs))}]"

    def for_kind(self, kind: Kind) -> Codec:
        return Chain([codec.for_kind(kind) for codec in self.codecs])

    def in_evaluation(self) -> Codec:
        return Chain([codec.in_evaluation() for codec in self.codecs])

    def takes(self, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
        return self._coding[0].takes(shape, dtype)

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        total = 0
        for codec, after in zip(self._coding, self._coding[1:], strict=False):
            assert isinstance(codec, ValueCodec)
            values = codec.most_values(shape)
            if not after.takes(values, dtype):
                return total + codec.size(shape, dtype)
            total += codec.size(shape, dtype) - math.prod(values) * dtype.itemsize
            shape = values
        return total + self._coding[-1].size(shape, dtype)

    def encode(self, values: Tensor, at: Passage) -> Arrays | None:
        arrays = self._encoded(0, values, at)
        if arrays is None or not self._ends_lossless:
            return arrays
        small = compressed(arrays[-1])
        return (*arrays[:-1], small) if small.nbytes < arrays[-1].nbytes else arrays

    def _encoded(self, i: int, values: Tensor, at: Passage) -> Arrays | None:
        codec = self._coding[i]
        arrays = codec.encode(values, at)
        if arrays is None or i + 1 == len(self._coding):
            return arrays
        assert isinstance(codec, ValueCodec)
        heads, rest = arrays[: codec.num_heads], arrays[codec.num_heads]
        shape = codec.values_shape(heads, tuple(values.shape))
        if not rest.size or not self._coding[i + 1].takes(shape, values.dtype):
            return arrays
        inner = self._encoded(i + 1, torch.from_numpy(np.ascontiguousarray(rest)).reshape(shape), at)
        return None if inner is None else (*heads, *inner)

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        return self._decoded(0, arrays, shape, dtype, at)

    def _decoded(self, i: int, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        codec = self._coding[i]
        if i + 1 < len(self._coding):
            assert isinstance(codec, ValueCodec)
            heads, rest = arrays[: codec.num_heads], arrays[codec.num_heads :]
            inner = codec.values_shape(heads, shape)
            if math.prod(inner) and self._coding[i + 1].takes(inner, dtype):
                values = self._decoded(i + 1, rest, inner, dtype, at).numpy()
                return codec.decode((*heads, values), shape, dtype, at)
        return codec.decode(self._unsqueezed(codec, arrays, shape, dtype), shape, dtype, at)

    def _unsqueezed(self, codec: Codec, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype) -> Arrays:
        """Decompress the last array where it is shorter than the codes of this shape."""
        if not self._ends_lossless:
            return arrays
        heads, last = arrays[:-1], arrays[-1]
        whole = codec.last_bytes(heads, shape, dtype)
        if last.nbytes == whole:
            return arrays
        raw = decompressed(last, whole)
        return (*heads, raw.view(f"<f{dtype.itemsize}") if isinstance(codec, ValueCodec) else raw)
