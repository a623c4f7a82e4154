"""Random streams: every draw comes from a generator that is keyed by its purpose.

A stream is named by (seed, keys...), for example ``(7, "owner-3", "round", 12, "batches")``. The name is hashed
with BLAKE2b, so a stream depends neither on the process, nor on the order of other draws, nor on Python's salted
``hash``.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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


@contextmanager
def keyed_draws(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Within this context the global streams of torch, NumPy and Python are those of this seed; afterwards as before.

    Args:
        seed: of the work; equal seeds draw equal values.
        device: the torch device whose stream is seeded beside the CPU's.
    """
    before, where = present_draws(device), torch.device(device)
    torch.default_generator.manual_seed(seed)
    if where.type == "cuda":
        with torch.cuda.device(where):
            torch.cuda.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        _set_draws(before, device)


def present_draws(device: torch.device | str = "cpu") -> tuple[Any, ...]:
    """Return the states of the global streams of torch, NumPy and Python, for `draws_from`."""
    where = torch.device(device)
    on_cuda = torch.cuda.get_rng_state(where) if where.type == "cuda" else None
    return torch.default_generator.get_state(), np.random.get_state(), random.getstate(), on_cuda  # noqa: NPY002


@contextmanager
def draws_from(states: tuple[Any, ...], device: torch.device | str = "cpu") -> Iterator[None]:
    """Within this context the global streams go on from these states; afterwards they are as before."""
    before = present_draws(device)
    _set_draws(states, device)
    try:
        yield
    finally:
        _set_draws(before, device)


def _set_draws(states: tuple[Any, ...], device: torch.device | str) -> None:
    on_cpu, of_numpy, of_python, on_cuda = states
    torch.default_generator.set_state(on_cpu)
    np.random.set_state(of_numpy)  # noqa: NPY002
    random.setstate(of_python)
    if on_cuda is not None:
        torch.cuda.set_rng_state(on_cuda, torch.device(device))


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one torch thread, as every place does: bits are equal only at equal numbers of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
