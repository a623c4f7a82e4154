"""The digest of an owner's samples, by which everybody can tell that they have changed, and nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from raysplit.data.sources.shards import StreamedShard, parquet_file


def digest_of(*sides: Any) -> str:
    """Compute the digest of samples; of a streamed file, of its footer, which has sizes and statistics."""
    found = hashlib.sha256()
    for chunk in (chunk for side in sides for chunk in _chunks(side)):
        found.update(chunk)
    return found.hexdigest()


def _chunks(samples: Any) -> Iterator[Any]:
    if isinstance(samples, StreamedShard):
        yield repr(parquet_file(samples.uri).metadata.to_dict()).encode()
        return
    for kind, values in (("x", samples.x), ("y", samples.y)):
        named = {kind: values} if isinstance(values, Tensor) else values
        for name, value in named.items():
            yield f"{name} {value.dtype} {tuple(value.shape)}".encode()
            yield _bytes(value)
            if name in samples.ragged:
                yield _bytes(samples.ragged[name].offsets)


def _bytes(value: Tensor) -> Any:
    return value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
