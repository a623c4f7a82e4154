"""A world in which time jumps: an event loop and its clock.

A `VirtualLoop` runs the same coroutines as any event loop, but when all of them wait, its time jumps to the next timer
(as in the MockClock of trio): hours of described work take seconds, and the same program gives the same times again.
"""

from __future__ import annotations

import asyncio
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import cached_property
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar

from raysplit.cluster.virtual_task import Callback, VirtualFuture, VirtualTask

T = TypeVar("T")


class Deadlock(RuntimeError):
    """All coroutines wait for one another, and no timer is left that could wake one."""


class VirtualTimer:
    """A callback to come, which may be taken back; the contract of `asyncio.TimerHandle`."""

    __slots__ = ("args", "callback", "context", "when_s")

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


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without a world outside: no threads, no sockets, and time that jumps.

    Callbacks run in the order in which they become due; equal times keep the order in which they were set. What is
    set for the present instant runs when everything else of this instant has run.

    Attributes:
        now_s: the time it is.
        due: what runs next, tasks and callbacks.
        timers: a heap of what is to come, by time and number.
        unfinished: all tasks that have not ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.due: deque[VirtualTask | Callback] = deque()
        self.timers: list[tuple[float, int, VirtualTask | VirtualTimer]] = []
        self.numbers = count()
        self.unfinished: set[VirtualTask] = set()
        self._instant: deque[VirtualTimer] = deque()

    def time(self) -> float:
        return self.now_s

    def create_future(self) -> VirtualFuture:  # type: ignore[override]
        return VirtualFuture(self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> VirtualTask:
        return VirtualTask(coro, self, name=name, context=context)

    def call_soon(  # type: ignore[override]  # nobody takes back what is due
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> None:
        self.due.append((copy_context() if context is None else context, callback, args))

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> VirtualTimer:
        timer = VirtualTimer(when, callback, args, copy_context() if context is None else context)
        if when <= self.now_s:
            self._instant.append(timer)
        else:
            heappush(self.timers, (when, next(self.numbers), timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> VirtualTimer:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def _run_once(self) -> None:
        """Run until somebody stops the loop: all that is due, then the rest of the instant, then the next timer."""
        due, instant, timers = self.due, self._instant, self.timers
        timer: VirtualTask | VirtualTimer
        while not self._stopping:  # type: ignore[attr-defined]
            while due:
                entry = due.popleft()
                if isinstance(entry, VirtualTask):
                    entry.step()
                else:
                    context, callback, args = entry
                    context.run(callback, *args)
            if self._stopping:  # type: ignore[attr-defined]
                return
            if instant:
                timer, number = instant.popleft(), 0
            elif timers:
                self.now_s, number, timer = heappop(timers)
            else:
                raise Deadlock("every party waits for another one and nothing is under way; the round cannot end")
            if isinstance(timer, VirtualTask):
                if timer.timer == number:
                    timer.step()
            elif timer.callback is not None:
                timer.context.run(timer.callback, *timer.args)

    def _write_to_self(self) -> None:
        """Nothing outside this thread can wake the loop."""


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Like `asyncio.run`, in virtual time that starts at 0. Raises `Deadlock` when nobody can go on."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        try:
            return runner.run(main)
        finally:
            runner.run(_end_the_rest())


async def _end_the_rest() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    this: Any = asyncio.current_task()
    rest = loop.unfinished - {this}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


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

    @types.coroutine
    def reach(self, when_s: float) -> Generator[float, None, None]:
        if when_s > self._loop.now_s:
            yield when_s
