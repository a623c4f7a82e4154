"""Fuzzing: what a reader may do with an input, and how many inputs a test makes.

A reader either returns an object, or raises one of the project's own errors with a message of bounded length, in
bounded time and memory. Inputs are drawn from fixed seeds: a sample in every run of the tests, many in the slow ones.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

T = TypeVar("T")

MOST_CHARACTERS = 4_096
MOST_SECONDS = 10.0
MOST_BYTES = 3 * 2**30

amounts = pytest.mark.parametrize(
    "share", [0.03, pytest.param(1.0, marks=[pytest.mark.slow, pytest.mark.timeout(3_600)])], ids=["sample", "many"]
)
"""Mark of a fuzzed test, which gets the share of its inputs."""


def fuzz(strategy: st.SearchStrategy[T], check: Callable[[T], Any], *, inputs: int, record: Any) -> None:
    """Check inputs of a strategy, and record how many there were.

    Args:
        strategy: of the inputs.
        check: is called with each.
        inputs: how many there are.
        record: pytest's ``record_property``.
    """
    seen = 0

    @settings(
        max_examples=inputs,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(value: T) -> None:
        nonlocal seen
        seen += 1
        check(value)

    with bounded_memory():
        run()
    assert seen >= inputs
    record("inputs", seen)


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Have a request for some GiB fail at once, instead of slowing the machine down."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm", encoding="ascii") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MOST_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def read_or_refused(
    read: Callable[[], T], *named: str, errors: tuple[type[Exception], ...] = (ValueError,)
) -> T | None:
    """Return what a reader returns; None where it raises one of its errors, whose message has all of ``named``.

    An error of a subclass is no error of the project's: a ``UnicodeDecodeError`` is a ``ValueError`` too.
    """
    began = time.process_time()
    try:
        return read()
    except Exception as error:
        if type(error) not in errors:
            raise
        text = str(error)
        assert text.strip(), "an error without a message"
        assert len(text) < MOST_CHARACTERS, f"a message of {len(text)} characters: {text[:500]}"
        for name in named:
            assert name in text, f"{name!r} is not in the message: {text[:500]}"
        return None
    finally:
        took = time.process_time() - began
        assert took < MOST_SECONDS, f"took {took:.1f} s"
