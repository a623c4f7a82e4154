"""What cannot be recorded, and the future that nobody may wait for."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any


class CannotBeRecorded(Exception):
    """Raised for a program whose course may depend on more than its own calls; the message says what it does."""


class Unknown:
    """A future of asyncio's own: it may have a result, but nobody may wait for one."""

    def __init__(self) -> None:
        self._result: Any = None
        self._done = False

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._done:
            raise CannotBeRecorded("it waits for a future of its own")
        return self._result
        yield  # a generator

    def set_result(self, value: Any) -> None:
        self._result, self._done = value, True
