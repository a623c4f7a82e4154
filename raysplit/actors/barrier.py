"""A place to meet: everybody brings something under a name, and all leave with what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Any

from raysplit.actors.records import StaleCall
from raysplit.cluster.clock import go_on_from, reached_s

_Outcome = tuple[Any, float | None]
"""What came of a meeting, and when that was there, in a paced run."""


class Barrier:
    """Meetings by key. The last one to arrive does the joint work once; the order of arrival leaves no trace."""

    def __init__(self) -> None:
        self._brought: dict[Hashable, dict[str, Any]] = {}
        self._waiting: dict[Hashable, list[asyncio.Future[_Outcome]]] = {}
        self._expected: dict[Hashable, dict[str, None]] = {}

    async def meet(
        self,
        key: Hashable,
        name: str,
        value: Any,
        expected: Sequence[str],
        work: Callable[[list[Any]], Awaitable[Any]],
    ) -> Any:
        """Bring a value, wait for all of ``expected``, return what ``work`` made of the values in expected order.

        A failure of the joint work reaches everybody who waits.
        """
        if key not in self._expected:
            self._expected[key] = dict.fromkeys(expected)
        if name not in self._expected[key]:
            raise StaleCall(f"{name} came to {key!r} where only {list(expected)} are expected")
        brought = self._brought.setdefault(key, {})
        if name in brought:
            raise StaleCall(f"{name} came to {key!r} twice")
        brought[name] = value
        if len(brought) < len(expected):
            mine: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(key, []).append(mine)  # a future each: who gives up takes nobody along
            result, when_s = await mine
        else:
            del self._brought[key], self._expected[key]
            result, when_s = await _done(work([brought[who] for who in expected]), self._waiting.pop(key, []))
        go_on_from(when_s)  # of a paced run: nobody leaves before the work is done
        return result

    def absent(self) -> list[str]:
        """Who has not come where others wait."""
        waited_for = {
            who for key, brought in self._brought.items() for who in self._expected[key] if who not in brought
        }
        return sorted(waited_for)

    def reset(self, reason: str) -> None:
        """Send everybody away with a `StaleCall`."""
        for waiting in self._waiting.values():
            fail(waiting, StaleCall(reason))
        self._brought.clear()
        self._waiting.clear()
        self._expected.clear()


async def _done(work: Awaitable[Any], waiting: Sequence[asyncio.Future[_Outcome]]) -> _Outcome:
    """The outcome of the work and when it was there, told to all who wait."""
    try:
        outcome = await work, reached_s()
    except Exception as error:
        fail(waiting, error)
        raise
    for future in waiting:
        if not future.done():
            future.set_result(outcome)
    return outcome


def fail(waiting: Iterable[asyncio.Future[Any]], error: BaseException) -> None:
    """Let all who still wait have this error."""
    for future in waiting:
        if not future.done():
            future.set_exception(error)
            future.exception()  # retrieved: nobody may be waiting any more
