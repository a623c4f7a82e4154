"""How parties wait for one another: a barrier, where all receive the result of joint work, and turns in order."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from typing import Any

from raysplit.actors.records import StaleCall
from raysplit.cluster.clock import go_on_from, reached_s

_Outcome = tuple[Any, float | None]  # the result, and in a paced run the time at which it was there


class Barrier:
    """Meetings by key. The last one to arrive runs the joint work; the order of arrival does not change the result."""

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
        """Submit a value, wait for all expected ones, and return the result of the joint work.

        Args:
            key: identifies the meeting.
            name: the name of the one who submits.
            value: what it submits.
            expected: the names of all who take part.
            work: the joint work on all values, in the order of ``expected``. Its error is raised in all who wait.

        Raises:
            StaleCall: for an unexpected name or a second submission, or if the barrier is reset.
        """
        if key not in self._expected:
            self._expected[key] = dict.fromkeys(expected)
        if name not in self._expected[key]:
            raise StaleCall(f"{name} submitted to {key!r}, where only {list(expected)} are expected")
        brought = self._brought.setdefault(key, {})
        if name in brought:
            raise StaleCall(f"{name} submitted to {key!r} twice")
        brought[name] = value
        if len(brought) < len(expected):
            mine: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(key, []).append(mine)  # one future each: a cancelled one affects no other
            result, when_s = await mine
        else:
            del self._brought[key], self._expected[key]
            result, when_s = await _done(work([brought[who] for who in expected]), self._waiting.pop(key, []))
        go_on_from(when_s)  # in a paced run, nobody leaves before the work is done
        return result

    def absent(self) -> list[str]:
        """Return the names that are missing in meetings where others wait."""
        waited_for = {
            who for key, brought in self._brought.items() for who in self._expected[key] if who not in brought
        }
        return sorted(waited_for)

    def reset(self, reason: str) -> None:
        """Raise `StaleCall` in all who wait, and forget all meetings."""
        for waiting in self._waiting.values():
            fail(waiting, StaleCall(reason))
        self._brought.clear()
        self._waiting.clear()
        self._expected.clear()


class Turns:
    """Turns in a given order, counted from 0, whoever arrives first."""

    def __init__(self) -> None:
        self._turn = 0
        self._waiting: dict[int, asyncio.Future[None]] = {}

    def may_come(self, turn: int, num_turns: int) -> bool:
        """Whether a turn is one of so many, and has not passed."""
        return self._turn <= turn < num_turns

    async def comes(self, turn: int) -> None:
        """Wait until all earlier turns have passed; one that has passed does not come again."""
        if turn != self._turn:
            waiting = self._waiting.setdefault(turn, asyncio.get_running_loop().create_future())
            await asyncio.shield(waiting)  # a cancelled caller must not cancel the turn of others

    def passed(self) -> None:
        """Note that the present turn is over; the next one comes."""
        self._turn += 1
        following = self._waiting.pop(self._turn, None)
        if following is not None and not following.done():
            following.set_result(None)

    def reset(self) -> None:
        """Begin again at turn 0, and cancel all who wait."""
        self._turn = 0
        for waiting in self._waiting.values():
            waiting.cancel()
        self._waiting.clear()


async def _done(work: Awaitable[Any], waiting: Sequence[asyncio.Future[_Outcome]]) -> _Outcome:
    """Await the work, and pass its result or error to all who wait."""
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
    """Set this error in all futures that are not done."""
    for future in waiting:
        if not future.done():
            future.set_exception(error)
            future.exception()  # mark it as retrieved: nobody may await the future any more
