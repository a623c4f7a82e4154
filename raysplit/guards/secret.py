"""An owner's secret, and the random streams that it is the key of.

The seed of a run is in its configuration, which everybody has: noise from it could be drawn again and subtracted. So
noise, flipped labels and the owners' initial weights come from 32 bytes in a file of the owner, which never enter a
configuration, a checkpoint, a log or a message.

The stream of a step is keyed by the secret, the owner, the purpose, the round, the step, and a running hash of what the
owner has received, the settings first: a step that is repeated with the same inputs sends the same bits and tells
nothing new, and one with other inputs gets fresh noise. The hash has nothing of the owner's own values: a server could
otherwise test them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

SECRET_BYTES = 32
OWNER = "{owner}"
"""What stands for the owner's name in the path of a secret."""


class Secret:
    """A key that is never shown."""

    __slots__ = ("_key", "owner")

    def __init__(self, key: bytes, owner: str) -> None:
        self._key = hashlib.blake2b(key, digest_size=32, person=b"raysplit secret").digest()
        self.owner = owner

    def __repr__(self) -> str:
        return f"Secret({self.owner!r})"

    def __reduce__(self) -> Any:
        raise TypeError("a secret stays in the process that read it")

    def stream(self, purpose: str, round: int = 0, step: int = 0, transcript: bytes = b"", *more: int) -> Any:
        """Return the random numbers of a purpose, as a `numpy.random.Generator` at their start."""
        name = "\x1f".join([self.owner, purpose, str(round), str(step), *map(str, more)]).encode()
        digest = hashlib.blake2b(name + b"\x1e" + transcript, digest_size=16, key=self._key).digest()
        return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))

    def shared_seed(self, purpose: str) -> int:
        """Return a seed that all owners with this secret have."""
        digest = hashlib.blake2b(purpose.encode(), digest_size=8, key=self._key).digest()
        return int.from_bytes(digest, "little") >> 1


def read_secret(path: str, owner: str) -> Secret:
    """Read an owner's secret.

    Raises:
        ValueError: there is no such file, others may read it, or it has too few bytes.
    """
    file = Path(path.replace(OWNER, owner))
    way_out = f"make one where {owner} lives: (umask 077; head -c {SECRET_BYTES} /dev/urandom > {file})"
    try:
        key = file.read_bytes()
        mode = file.stat().st_mode
    except OSError as error:
        raise ValueError(f"the secret of {owner} cannot be read from {file}: {error.strerror}; {way_out}") from None
    if len(key) < SECRET_BYTES:
        raise ValueError(f"the secret of {owner} in {file} has {len(key)} bytes and needs {SECRET_BYTES}; {way_out}")
    if mode & 0o077:
        raise ValueError(
            f"the secret of {owner} in {file} can be read by others on its machine (mode {mode & 0o777:o}); "
            f"chmod 600 {file}"
        )
    return Secret(key, owner)


def rehearsal_secret(seed: int, owner: str) -> Secret:
    """Return the secret of a rehearsal, which everybody can draw from the seed of the run."""
    return Secret(f"rehearsal {seed}".encode(), owner)


class Transcript:
    """The running hash of what an owner has received."""

    def __init__(self, digest: bytes = b"") -> None:
        self.digest = digest

    def add(self, *values: Any) -> None:
        """Take in values: tensors, numbers, text, bytes, and tuples, lists and mappings of them."""
        state = hashlib.blake2b(self.digest, digest_size=16)
        for piece in _pieces(values):
            state.update(len(piece).to_bytes(8, "little"))
            state.update(piece)
        self.digest = state.digest()


def _pieces(value: Any) -> Iterable[bytes]:
    if isinstance(value, Tensor):
        yield f"{value.dtype} {tuple(value.shape)}".encode()
        whole = value.detach().cpu().contiguous()
        yield whole.reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, tuple | list):
        yield f"{len(value)} values".encode()
        for item in value:
            yield from _pieces(item)
    elif isinstance(value, dict):
        yield f"{len(value)} entries".encode()
        for key, item in value.items():
            yield str(key).encode()
            yield from _pieces(item)
    elif isinstance(value, bytes):
        yield value
    else:
        yield f"{type(value).__name__} {value!r}".encode()
