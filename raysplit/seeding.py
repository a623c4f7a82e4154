"""Random streams: every draw comes from a generator that is keyed by its purpose.

A stream is named by (seed, keys...), for example ``(7, "owner-3", "round", 12, "batches")``. The name is hashed
with BLAKE2b, so a stream depends neither on the process, nor on the order of other draws, nor on Python's salted
``hash``.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def derive(seed: int, *keys: str | int) -> int:
    """Return the 63-bit seed of the stream named ``(seed, *keys)``."""
    name = "\x1f".join([str(int(seed)), *(f"{type(k).__name__}:{k}" for k in keys)])
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *keys: str | int) -> np.random.Generator:
    """Return a new NumPy generator at the start of the stream named ``(seed, *keys)``."""
    return np.random.default_rng(derive(seed, *keys))


def torch_generator(seed: int, *keys: str | int) -> torch.Generator:
    """Return a new torch CPU generator at the start of the stream named ``(seed, *keys)``."""
    return torch.Generator().manual_seed(derive(seed, *keys))
