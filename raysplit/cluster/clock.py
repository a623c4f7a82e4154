"""Time, virtual or real. Nobody outside this file knows which.

A `VirtualLoop` runs the same coroutines as any event loop, but when all of them wait, its time jumps to the next timer
(as in the MockClock of trio): hours of described work take seconds, and the same program gives the same times again.
The clocks count in described seconds; on the wall clock one described second takes ``time_scale`` real ones.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Deadlock(RuntimeError):
    """All coroutines wait for one another, and no timer is left that could wake one."""


class _Call:
    """A callback that is due, or will be; stands in for `asyncio.Handle`, at a third of its cost."""

    __slots__ = ("args", "callback", "context")

    def __init__(self, callback: Callable[..., Any] | None, args: tuple[Any, ...], context: Context | None) -> None:
        self.callback = callback
        self.args = args
        self.context = context or copy_context()

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without a world outside: no threads, no sockets, and time that jumps.

    Callbacks run in the order in which they become due; equal times keep the order in which they were set.
    """

    def __init__(self) -> None:
        super().__init__()
        self._now_s = 0.0
        self._due: list[_Call] = []
        self._timers: list[tuple[float, int, _Call]] = []
        self._numbers = count()

    def time(self) -> float:
        return self._now_s

    def call_soon(  # type: ignore[override]  # the returned call is all of a Handle that anybody uses
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Call:
        call = _Call(callback, args, context)
        self._due.append(call)
        return call

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Call:
        call = _Call(callback, args, context)
        heapq.heappush(self._timers, (when, next(self._numbers), call))
        return call

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Call:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def _run_once(self) -> None:
        """Everything due now; when nothing is, the next timers' time comes."""
        due, self._due = self._due, []
        for call in due:
            if call.callback is not None:
                call.context.run(call.callback, *call.args)
        if self._due or self._stopping:  # type: ignore[attr-defined]
            return
        timers = self._timers
        if not timers:
            raise Deadlock("every party waits for another one and nothing is under way; the round cannot end")
        when = max(timers[0][0], self._now_s)
        self._now_s = when
        while timers and timers[0][0] <= when:
            self._due.append(heapq.heappop(timers)[2])

    def _write_to_self(self) -> None:
        """Nothing outside this thread can wake the loop."""


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, in virtual time that starts at 0. Raises `Deadlock` when nobody can go on."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


class Clock(Protocol):
    """Counts described seconds since the start of the run."""

    def time_s(self) -> float:
        """The time it is."""
        ...

    def now_s(self) -> float:
        """The time up to which the running call is accounted for: what follows starts here."""
        ...

    async def reach(self, when_s: float) -> None:
        """Let the running call get to this time; at once if it has passed."""
        ...


@dataclass(frozen=True, kw_only=True)
class VirtualClock:
    """The time of the running `VirtualLoop`."""

    def time_s(self) -> float:
        return asyncio.get_running_loop().time()

    now_s = time_s

    async def reach(self, when_s: float) -> None:
        loop = asyncio.get_running_loop()
        if when_s > loop.time():
            woken: asyncio.Future[None] = loop.create_future()
            loop.call_at(when_s, _wake, woken)
            await woken


def _wake(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


_reached_s: ContextVar[float] = ContextVar("reached_s", default=0.0)


@dataclass(frozen=True, kw_only=True)
class WallClock:
    """Real time, divided by the time scale.

    Sleeping is late by a millisecond here and there. So that this does not add up, a call goes on from the time that
    it was to reach, not from the time at which it woke, unless it lags behind by more than the slack.

    Args:
        started_s: when the run began, in seconds since the epoch; the same in all places.
        time_scale: real seconds per described second; 0.1 runs ten times as fast as described.
    """

    started_s: float
    time_scale: float = 1.0
    slack_real_s: float = 0.05

    def __post_init__(self) -> None:
        if not self.time_scale > 0:
            raise ValueError(f"time_scale is {self.time_scale}; 1 is real time, 0.1 runs ten times as fast")

    def time_s(self) -> float:
        return (time.time() - self.started_s) / self.time_scale

    def now_s(self) -> float:
        return max(_reached_s.get(), self.time_s() - self.slack_real_s / self.time_scale)

    async def reach(self, when_s: float) -> None:
        missing_s = (when_s - self.time_s()) * self.time_scale
        if missing_s > 0:
            await asyncio.sleep(missing_s)
        _reached_s.set(max(when_s, _reached_s.get()))
