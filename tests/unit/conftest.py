"""Unit tests run without Ray: importing it here is a mistake in the code under test."""

from __future__ import annotations

import sys

import pytest


@pytest.fixture(autouse=True)
def _forbid_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    if "ray" not in sys.modules:
        monkeypatch.setitem(sys.modules, "ray", None)  # `import ray` now raises ImportError
