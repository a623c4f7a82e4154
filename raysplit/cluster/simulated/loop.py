"""Virtual time: an event loop whose time jumps, and its clock.

A `VirtualLoop` runs the tasks and futures of asyncio, but when all of them wait, its time jumps to the next timer (as
in the MockClock of trio): hours of emulated work take seconds, and a program gives the same times in every run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import cached_property
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar

T = TypeVar("T")

_CALLBACKS_BETWEEN = 20_000  # at 3 microseconds each


class Deadlock(RuntimeError):
    """Error raised when all coroutines wait for one another and no timer is left."""


class VirtualTimer:
    """A scheduled callback that can be canceled, with the interface of `asyncio.TimerHandle`."""

    def __init__(self, when_s: float, callback: Callable[..., Any], args: tuple[Any, ...], context: Context) -> None:
        self.when_s = when_s
        self.callback: Callable[..., Any] | None = callback
        self.args = args
        self.context = context

    def when(self) -> float:
        return self.when_s

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None

    def ring(self) -> None:
        """Run the callback unless it was canceled."""
        if self.callback is not None:
            self.context.run(self.callback, *self.args)


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without threads and sockets, in virtual time.

    Callbacks run in the order in which they become due; callbacks with equal times run in the order in which they were
    scheduled. A timer for the current instant runs after everything else of this instant.

    Args:
        meanwhile: function to call now and then during the run, for example to show progress.

    Attributes:
        now_s: current time in emulated seconds.
    """

    def __init__(self, meanwhile: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.now_s = 0.0
        self._meanwhile = meanwhile
        self._due: deque[tuple[Context, Callable[..., Any], tuple[Any, ...]]] = deque()
        self._instant: deque[VirtualTimer] = deque()  # run when nothing is due, before the time moves on
        self._timers: list[tuple[float, int, VirtualTimer | asyncio.Future[None]]] = []
        self._numbers = count()

    def time(self) -> float:
        return self.now_s

    def call_soon(  # type: ignore[override]  # due callbacks are never canceled
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> None:
        self._due.append((copy_context() if context is None else context, callback, args))

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> VirtualTimer:
        timer = VirtualTimer(when, callback, args, copy_context() if context is None else context)
        if when <= self.now_s:
            self._instant.append(timer)
        else:
            heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> VirtualTimer:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    async def reach(self, when_s: float) -> None:
        """Wait until this time; return at once if it has passed."""
        if when_s > self.now_s:
            reached: asyncio.Future[None] = self.create_future()
            heappush(self._timers, (when_s, next(self._numbers), reached))
            await reached

    def _run_once(self) -> None:
        """Run until the loop is stopped: all that is due, then the rest of the instant, then the next timer."""
        due, instant, timers, left = self._due, self._instant, self._timers, _CALLBACKS_BETWEEN
        while not self._stopping:  # type: ignore[attr-defined]
            if due:
                context, callback, args = due.popleft()
                context.run(callback, *args)
                left -= 1
                if not left:
                    left = _CALLBACKS_BETWEEN
                    if self._meanwhile is not None:
                        self._meanwhile()
            elif instant:
                instant.popleft().ring()
            elif timers:
                self.now_s, _, timer = heappop(timers)
                if isinstance(timer, VirtualTimer):
                    timer.ring()
                elif not timer.done():
                    timer.set_result(None)
            else:
                raise Deadlock("all parties wait for one another and nothing is in transit, so the round cannot end")

    def _write_to_self(self) -> None:
        """Do nothing: no other thread can wake the loop."""


def run_virtual(main: Coroutine[Any, Any, T], meanwhile: Callable[[], None] | None = None) -> T:
    """Run a coroutine as `asyncio.run` does, in virtual time from 0; raise `Deadlock` if no task can continue."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(meanwhile)) as runner:
        return runner.run(main)


class VirtualClock:
    """The clock of the `VirtualLoop` that is running at its first use."""

    @cached_property
    def _loop(self) -> VirtualLoop:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        return loop

    def time_s(self) -> float:
        return self._loop.now_s

    now_s = time_s

    @cached_property
    def reach(self) -> Callable[[float], Coroutine[Any, Any, None]]:
        """Wait until this time; return at once if it has passed."""
        return self._loop.reach
