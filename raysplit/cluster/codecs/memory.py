"""Codecs that remember each sample, so that what is sent is what has changed since its last visit.

* ``delta``: Wang et al., "Fine-tuning Language Models over Slow Networks using Activation Quantization with Guarantees"
  (AQ-SGD, 2022, arXiv 2206.01299). Both ends keep the smashed data of each sample; the change is coded.
* ``skip``: Li et al., "SplitCom" (2026, arXiv 2602.10564): rows that have hardly changed are not sent.

Sample numbers are sent as four bytes for each row. Both need the same sample to look the same at every visit.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from raysplit.cluster.codecs.affine import CHECKED, Int8
from raysplit.cluster.codecs.codec import Arrays, Codec, Passage
from raysplit.cluster.contract import current_samples
from raysplit.cluster.links.kinds import Kind

_FIRST = Int8(by="row")
"""Codec of a row that the receiver does not know yet."""


class Remembered(Codec):
    """The rows of known samples by one codec of their changes, and those of new samples by int8.

    Args:
        codec: codec of the changes.
    """

    number = 48
    kinds = frozenset(("smashed",))
    size_depends_on_values = True
    keeps_state = True

    def __init__(self, codec: Codec) -> None:
        self._codec = codec

    def __repr__(self) -> str:
        return f"[delta, {self._codec!r}]"

    def for_kind(self, kind: Kind) -> Codec:
        Delta().for_kind(kind)
        return self

    def in_evaluation(self) -> Codec:
        return _FIRST

    def takes(self, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
        return len(shape) > 1

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        """Return the size of a batch whose samples are all new, or all known: the larger of the two."""
        return 4 * shape[0] + max(_FIRST.size(shape, dtype), self._codec.size(shape, dtype))

    def encode(self, values: Tensor, at: Passage) -> Arrays | None:
        samples = _numbers(at, len(values))
        cache = _Cache(at)
        known = cache.known(samples)
        arrays: list[npt.NDArray[Any]] = [samples]
        fresh = values[~known]
        if len(fresh):
            arrays += _FIRST.encode(fresh.contiguous(), at)
            cache.set(samples[~known.numpy()], _FIRST.decode(arrays[1:4], tuple(fresh.shape), values.dtype, at))
        if known.any():
            before = cache.rows(samples[known.numpy()], values.dtype)
            change = self._codec.encode((values[known] - before).contiguous(), at)
            if change is None:
                return None
            arrays += change
            decoded = self._codec.decode(change, tuple(before.shape), values.dtype, at)
            cache.set(samples[known.numpy()], before + decoded)
        return arrays

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        samples = np.asarray(arrays[0])
        cache = _Cache(at)
        known = cache.known(samples)
        rest = list(arrays[1:])
        if num_new := int((~known).sum()):
            head, rest = rest[:3], rest[3:]
            cache.set(samples[~known.numpy()], _FIRST.decode(head, (num_new, *shape[1:]), dtype, at))
        if known.any():
            before = cache.rows(samples[known.numpy()], dtype)
            cache.set(samples[known.numpy()], before + self._codec.decode(rest, tuple(before.shape), dtype, at))
        return cache.rows(samples, dtype)


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Delta(Codec):
    """The change of each sample since its last visit, by the codec after it in the chain."""

    number = 48
    kinds = frozenset(("smashed",))

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        raise ValueError("delta needs a codec for the changes; give a chain such as [delta, int4]")

    encode = decode = size  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Skip(Codec):
    """Rows that are nearly those of the sample's last visit are not sent; the receiver takes its own.

    Args:
        similarity: cosine from which on a row is not sent.
    """

    number = 49
    kinds = frozenset(("smashed",))
    size_depends_on_values = True
    keeps_state = True
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.98

    def in_evaluation(self) -> Codec:
        return _FIRST

    def takes(self, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
        return len(shape) > 1

    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        return 4 * shape[0] + math.ceil(shape[0] / 8) + _FIRST.size(shape, dtype)

    def encode(self, values: Tensor, at: Passage) -> Arrays:
        samples = _numbers(at, len(values))
        cache = _Cache(at)
        sent = ~cache.known(samples)
        flat = values.reshape(len(values), -1).double()
        for i in torch.nonzero(~sent).reshape(-1).tolist():
            before = cache.rows(samples[i : i + 1], values.dtype).reshape(-1).double()
            norms = flat[i].norm() * before.norm()
            sent[i] = not (norms == 0 and flat[i].norm() == before.norm()) and (
                bool(norms == 0) or float(flat[i] @ before / norms) < self.similarity
            )
        arrays: list[npt.NDArray[Any]] = [samples, np.packbits(sent.numpy(), bitorder="little")]
        if sent.any():
            rows = values[sent].contiguous()
            coded = _FIRST.encode(rows, at)
            arrays += coded
            cache.set(samples[sent.numpy()], _FIRST.decode(coded, tuple(rows.shape), values.dtype, at))
        return arrays

    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        samples, bits = np.asarray(arrays[0]), arrays[1]
        sent = np.unpackbits(bits, count=shape[0], bitorder="little").view(np.bool_)
        cache = _Cache(at)
        if sent.any():
            cache.set(samples[sent], _FIRST.decode(arrays[2:], (int(sent.sum()), *shape[1:]), dtype, at))
        return cache.rows(samples, dtype)


class _Cache:
    """The rows of the samples of one owner at one end of a link."""

    def __init__(self, at: Passage) -> None:
        self._kept = at.memory.kept
        self._prefix = f"cache/{at.source}/{at.number}/"

    def known(self, samples: npt.NDArray[np.uint32]) -> Tensor:
        return torch.tensor([f"{self._prefix}{sample}" in self._kept for sample in samples.tolist()], dtype=torch.bool)

    def rows(self, samples: npt.NDArray[np.uint32], dtype: torch.dtype) -> Tensor:
        try:
            return torch.stack([self._kept[f"{self._prefix}{sample}"] for sample in samples.tolist()]).to(dtype)
        except KeyError as error:
            raise ValueError(f"the receiver does not know sample {error.args[0].rpartition('/')[2]}") from None

    def set(self, samples: npt.NDArray[np.uint32], rows: Tensor) -> None:
        for sample, row in zip(samples.tolist(), rows, strict=True):
            self._kept[f"{self._prefix}{sample}"] = row.clone()


def _numbers(at: Passage, num_rows: int) -> npt.NDArray[np.uint32]:
    samples = current_samples.get()
    if samples is None or len(samples) != num_rows or at.source != at.owner:
        raise ValueError(
            f"delta and skip need the numbers of the samples, which {at.source} does not know for this value; use "
            f"another codec for it"
        )
    return np.asarray(samples, dtype="<u4")
