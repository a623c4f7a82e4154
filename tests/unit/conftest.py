"""Unit tests run without Ray: importing it here is a mistake in the code under test."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Bitwise equality is promised at equal thread counts; parties run with one thread, so tests do too."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _forbid_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    if "ray" not in sys.modules:
        monkeypatch.setitem(sys.modules, "ray", None)  # `import ray` now raises ImportError
