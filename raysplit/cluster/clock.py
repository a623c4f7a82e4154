"""Time, virtual or real. Nobody outside this file knows which.

A `VirtualLoop` runs the same coroutines as any event loop, but when all of them wait, its time jumps to the next timer
(as in the MockClock of trio): hours of described work take seconds, and the same program gives the same times again.
The clocks count in described seconds; on the wall clock one described second takes ``time_scale`` real ones.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush
from itertools import count
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Deadlock(RuntimeError):
    """All coroutines wait for one another, and no timer is left that could wake one."""


_Due = tuple[Context, Callable[..., Any], tuple[Any, ...]]


class _Timer:
    """A callback to come; stands in for `asyncio.TimerHandle`, at a third of its cost."""

    __slots__ = ("args", "callback", "context")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context | None) -> None:
        self.callback: Callable[..., Any] | None = callback
        self.args = args
        self.context = copy_context() if context is None else context  # an empty context is false

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without a world outside: no threads, no sockets, and time that jumps.

    Callbacks run in the order in which they become due; equal times keep the order in which they were set. What is
    set for the present instant runs when everything else of this instant has run.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self._due: deque[_Due] = deque()
        self._instant: deque[_Timer] = deque()
        self._timers: list[tuple[float, int, _Timer | asyncio.Future[None]]] = []
        self._numbers = count()

    def time(self) -> float:
        return self.now_s

    def call_soon(  # type: ignore[override]  # nobody takes back what is due
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> None:
        self._due.append((copy_context() if context is None else context, callback, args))

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Timer:
        timer = _Timer(callback, args, context)
        if when <= self.now_s:
            self._instant.append(timer)
        else:
            heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def timer(self, when: float) -> asyncio.Future[None]:
        """Done at this time, which is yet to come."""
        timer: asyncio.Future[None] = asyncio.Future(loop=self)
        heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=self, name=name or "call", context=context)  # a number for each takes long

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> _Timer:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def _run_once(self) -> None:
        """Run until somebody stops the loop: all that is due, then the rest of the instant, then the next timer."""
        due, instant, timers = self._due, self._instant, self._timers
        while not self._stopping:  # type: ignore[attr-defined]
            while due:
                context, callback, args = due.popleft()
                context.run(callback, *args)
            if self._stopping:  # type: ignore[attr-defined]
                return
            timer: _Timer | asyncio.Future[None]
            if instant:
                timer = instant.popleft()
            elif timers:
                self.now_s, _, timer = heappop(timers)
            else:
                raise Deadlock("every party waits for another one and nothing is under way; the round cannot end")
            if isinstance(timer, _Timer):
                if timer.callback is not None:
                    timer.context.run(timer.callback, *timer.args)
            elif not timer.done():
                timer.set_result(None)

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


class VirtualClock:
    """The time of the `VirtualLoop` on which it is first asked."""

    @cached_property
    def _loop(self) -> VirtualLoop:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return loop

    def time_s(self) -> float:
        return self._loop.now_s

    now_s = time_s

    async def reach(self, when_s: float) -> None:
        if when_s > self._loop.now_s:
            await self._loop.timer(when_s)


_reached_s: ContextVar[float | None] = ContextVar("reached_s", default=None)


def reached_s() -> float | None:
    """The time that the running call has reached on a wall clock; None where there is none."""
    return _reached_s.get()


def go_on_from(when_s: float | None) -> None:
    """Account for the running call up to this time: it has waited for a call that got there."""
    before_s = _reached_s.get()
    if when_s is not None and (before_s is None or when_s > before_s):
        _reached_s.set(when_s)


@dataclass(frozen=True, kw_only=True)
class WallClock:
    """Real time, divided by the time scale.

    Sleeping is late by a millisecond here and there, by much more on a busy machine. So that this does not add up, a
    call goes on from the time that it was to reach, not from the time at which it woke, and catches up by sleeping
    less; unless it lags behind by more than the slack.

    Args:
        started_s: when the run began, in seconds since the epoch; the same in all places.
        time_scale: real seconds per described second; 0.1 runs ten times as fast as described.
        slack_real_s: how much a call may have to catch up.
    """

    started_s: float
    time_scale: float = 1.0
    slack_real_s: float = 1.0

    def __post_init__(self) -> None:
        if not self.time_scale > 0:
            raise ValueError(f"time_scale is {self.time_scale}; 1 is real time, 0.1 runs ten times as fast")

    def time_s(self) -> float:
        return (time.time() - self.started_s) / self.time_scale

    def now_s(self) -> float:
        before_s, time_s = _reached_s.get(), self.time_s()
        return time_s if before_s is None else max(before_s, time_s - self.slack_real_s / self.time_scale)

    async def reach(self, when_s: float) -> None:
        missing_s = (when_s - self.time_s()) * self.time_scale
        if missing_s > 0:
            await asyncio.sleep(missing_s)
        go_on_from(when_s)
