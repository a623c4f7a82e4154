"""Virtual time: an event loop whose time jumps, and its clock.

A `VirtualLoop` runs the same coroutines as any event loop, but when all of them wait, its time jumps to the next timer
(as in the MockClock of trio): hours of emulated work take seconds, and a program gives the same times in every run.
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
from typing import Any, Protocol, TypeVar

from raysplit.cluster.simulated.tasks import Callback, VirtualFuture, VirtualTask

T = TypeVar("T")


class Deadlock(RuntimeError):
    """Error raised when all coroutines wait for one another and no timer is left."""


class VirtualTimer:
    """A scheduled callback that can be canceled, with the interface of `asyncio.TimerHandle`."""

    callback: Callable[..., Any] | None
    args: tuple[Any, ...]
    context: Context
    when_s: float

    def when(self) -> float:
        return self.when_s

    def cancel(self) -> None:
        self.callback = None
        self.args = ()

    def cancelled(self) -> bool:
        return self.callback is None

    def ring(self, number: int = 0) -> None:
        """Run the callback unless it was canceled."""
        if self.callback is not None:
            self.context.run(self.callback, *self.args)


class Ringing(Protocol):
    """An entry in the list of timers, which is called with the timer's number."""

    def ring(self, number: int) -> None: ...


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without threads and sockets, in virtual time.

    Callbacks run in the order in which they become due; callbacks with equal times run in the order in which they were
    scheduled. A timer for the current instant runs after everything else of this instant.

    Attributes:
        now_s: current time in emulated seconds.
        due: tasks and callbacks to run next.
        instant: callbacks to run when nothing is due, before the time moves on.
        timers: heap of future timers, by time and number.
        numbers: counter of the timers' numbers.
        unfinished: tasks that have not ended.
        task_type: class of new tasks.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.due: deque[VirtualTask | Callback] = deque()
        self.instant: deque[Callable[[], None]] = deque()
        self.timers: list[tuple[float, int, Ringing]] = []
        self.numbers = count()
        self.unfinished: set[VirtualTask] = set()
        self.task_type: type[VirtualTask] = VirtualTask

    def time(self) -> float:
        return self.now_s

    def create_future(self) -> VirtualFuture:  # type: ignore[override]
        return VirtualFuture(self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> VirtualTask:
        task = self.task_type(coro, self, copy_context() if context is None else context)  # an empty context is false
        if name is not None:
            task.set_name(name)
        return task

    def call_soon(  # type: ignore[override]  # due callbacks are never canceled
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> None:
        self.due.append((copy_context() if context is None else context, callback, args))

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> VirtualTimer:
        timer = VirtualTimer()
        timer.when_s, timer.callback, timer.args = when, callback, args
        timer.context = copy_context() if context is None else context
        if when <= self.now_s:
            self.instant.append(timer.ring)
        else:
            heappush(self.timers, (when, next(self.numbers), timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> VirtualTimer:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def _run_once(self) -> None:
        """Run until the loop is stopped: all that is due, then the rest of the instant, then the next timer."""
        due, instant, timers = self.due, self.instant, self.timers
        while not self._stopping:  # type: ignore[attr-defined]
            while due:
                entry = due.popleft()
                if isinstance(entry, tuple):
                    context, callback, args = entry
                    context.run(callback, *args)
                else:
                    entry.step()
            if self._stopping:  # type: ignore[attr-defined]
                return
            if instant:
                instant.popleft()()
            elif timers:
                self.now_s, number, timer = heappop(timers)
                timer.ring(number)
            else:
                raise Deadlock("all parties wait for one another and nothing is in transit, so the round cannot end")

    def _write_to_self(self) -> None:
        """Do nothing: no other thread can wake the loop."""


def run_virtual(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine as `asyncio.run` does, in virtual time from 0; raise `Deadlock` if no task can continue."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        try:
            return runner.run(main)
        finally:
            runner.run(_end_the_rest())


async def _end_the_rest() -> None:
    loop = virtual_loop()
    this: Any = asyncio.current_task()
    rest = loop.unfinished - {this}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


def virtual_loop() -> VirtualLoop:
    """Return the running `VirtualLoop`."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


class VirtualClock:
    """The clock of the `VirtualLoop` that is running at its first use."""

    @cached_property
    def _loop(self) -> VirtualLoop:
        return virtual_loop()

    def time_s(self) -> float:
        return self._loop.now_s

    now_s = time_s

    @types.coroutine
    def reach(self, when_s: float) -> Generator[float, None, None]:
        if when_s > self._loop.now_s:
            yield when_s
