"""A place to meet: everybody brings something under a name, and all leave with what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

from raysplit.actors.records import StaleCall
from raysplit.cluster.clock import go_on_from, reached_s


class Barrier:
    """Meetings by key. The last one to arrive does the joint work once; the order of arrival leaves no trace."""

    def __init__(self) -> None:
        self._brought: dict[Hashable, dict[str, Any]] = {}
        self._outcome: dict[Hashable, asyncio.Future[Any]] = {}
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
        outcome = self._outcome.setdefault(key, asyncio.get_running_loop().create_future())
        if len(brought) == len(expected):
            del self._brought[key], self._outcome[key], self._expected[key]
            try:
                outcome.set_result((await work([brought[who] for who in expected]), reached_s()))
            except Exception as error:
                outcome.set_exception(error)
        result, when_s = await asyncio.shield(outcome)
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
        for outcome in self._outcome.values():
            if not outcome.done():
                outcome.set_exception(StaleCall(reason))
                outcome.exception()  # retrieved: nobody may be waiting any more
        self._brought.clear()
        self._outcome.clear()
        self._expected.clear()
