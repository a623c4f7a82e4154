"""Fixtures for all tests."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest
import torch

# Ray reads these when it is first imported, whichever test does that: one mode and one token for the whole suite.
os.environ["RAY_AUTH_MODE"] = "token"
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Copies of runs and the key that marks run folders stay out of the cache of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSPLIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Bitwise equality is promised at equal thread counts; parties run with one thread, so tests do too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
