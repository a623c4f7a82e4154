"""Streams depend on the secret, the owner, the purpose, the step and what was received, and on nothing else."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from raysplit.guards.secret import Secret, Transcript, read_secret, rehearsal_secret

KEY = bytes(range(32))


def bits(secret: Secret, *key: object) -> bytes:
    found: np.random.Generator = secret.stream(*key)  # type: ignore[arg-type]
    return found.bytes(16)


def received(*values: object) -> bytes:
    transcript = Transcript()
    transcript.add(*values)
    return transcript.digest


def test_same_key_same_bits_and_no_other() -> None:
    g = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    other = g.clone()
    other.view(torch.int32)[2, 1] ^= 1  # one bit
    secret = Secret(KEY, "owner-0")
    base = ("z", 3, 7, received(g))
    assert bits(secret, *base) == bits(Secret(KEY, "owner-0"), *base)
    others = [
        bits(Secret(KEY[:-1] + b"x", "owner-0"), *base),
        bits(Secret(KEY, "owner-1"), *base),
        bits(secret, "g", *base[1:]),
        bits(secret, "z", 4, 7, received(g)),
        bits(secret, "z", 3, 8, received(g)),
        bits(secret, "z", 3, 7, received(other)),
        bits(secret, *base, 1),
    ]
    assert len({bits(secret, *base), *others}) == len(others) + 1


def test_transcript_does_not_depend_on_the_order_in_memory() -> None:
    g = torch.randn(2, 3, 4, 5)
    assert received(g) == received(g.contiguous(memory_format=torch.channels_last))
    assert received(g) != received(g.double())
    assert received(g) != received(g.reshape(6, 20))
    assert received((1.0, g)) != received(1.0, g)
    assert received({"a": g}) != received({"b": g})


def test_a_secret_is_not_shown_and_does_not_travel() -> None:
    secret = Secret(KEY, "owner-0")
    assert repr(secret) == "Secret('owner-0')"
    with pytest.raises(TypeError, match="stays in the process"):
        pickle.dumps(secret)


def test_a_shared_secret_gives_all_owners_one_seed() -> None:
    assert Secret(KEY, "owner-0").shared_seed("init") == Secret(KEY, "owner-1").shared_seed("init")
    assert rehearsal_secret(1, "a").shared_seed("init") != rehearsal_secret(2, "a").shared_seed("init")


def test_secret_files_of_owners(tmp_path: Path) -> None:
    path = tmp_path / "owner-0.key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    assert bits(read_secret(str(tmp_path / "{owner}.key"), "owner-0"), "z") == bits(Secret(KEY, "owner-0"), "z")
    path.chmod(0o644)
    with pytest.raises(ValueError, match=r"can be read by others on its machine .*; chmod 600"):
        read_secret(str(path), "owner-0")
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(ValueError, match="has 5 bytes and needs 32; make one where owner-0 lives"):
        read_secret(str(path), "owner-0")
    with pytest.raises(ValueError, match=r"cannot be read from .*No such file"):
        read_secret(str(tmp_path / "{owner}.key"), "owner-1")
