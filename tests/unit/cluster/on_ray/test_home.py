"""The allocator's settings: what is asked of the C library, and when it is left alone."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import pytest

from raysplit.cluster.on_ray.home import keep_freed_memory


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What a C library that has the setting is asked."""
    calls: list[tuple[int, int]] = []

    def mallopt(parameter: int, value: int) -> int:
        calls.append((parameter, value))
        return 1

    for name in ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    _provide(monkeypatch, SimpleNamespace(mallopt=mallopt))
    return calls


def test_freed_memory_is_kept_and_tensors_stay_in_the_heap(asked: list[tuple[int, int]]) -> None:
    assert keep_freed_memory()
    assert asked == [(-1, 256 * 2**20), (-3, 32 * 2**20)]


@pytest.mark.parametrize("name", ["GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"])
def test_settings_of_the_users_own_stand(
    name: str, asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    assert not keep_freed_memory()
    assert asked == []


def test_another_c_library_is_left_alone(asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    _provide(monkeypatch, SimpleNamespace())
    assert not keep_freed_memory()


def _provide(monkeypatch: pytest.MonkeyPatch, library: Any) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
