"""Tasks and futures of a `VirtualLoop`.

A simulation consists of millions of short steps. These classes have the interface and the order of execution of
asyncio's tasks and futures at a fraction of the cost: there is one loop, one thread, and no logging or debugging.
"""

from __future__ import annotations

import asyncio
from asyncio import CancelledError, InvalidStateError, _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from heapq import heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raysplit.cluster.simulated.loop import VirtualLoop

Callback = tuple[Context, Callable[..., Any], tuple[Any, ...]]
Steps = Coroutine[Any, Any, Any] | Generator[Any, Any, Any]
_EMPTY_CONTEXT = Context()  # for the callback that wakes a task; the task runs in its own context


class VirtualFuture:
    """A future of a `VirtualLoop`, with the interface of `asyncio.Future`.

    Waiting tasks continue in the order in which they began to wait, behind everything that is already due.
    """

    # There are millions of futures: slots are the fastest attributes to create and to read.
    __slots__ = ("_cancel_message", "_done", "_done_s", "_error", "_loop", "_value", "_waiting")
    _asyncio_future_blocking = False  # marks a future for asyncio

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._waiting: list[VirtualTask | Callback] | None = None
        self._cancel_message: Any = None

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._done:
            yield self
        return self.result()

    def get_loop(self) -> VirtualLoop:
        return self._loop

    def done(self) -> bool:
        return self._done

    def cancelled(self) -> bool:
        return self._done and type(self._error) is CancelledError

    def result(self) -> Any:
        if not self._done:
            raise InvalidStateError("the future has no result yet")
        if self._error is not None:
            raise self._error
        return self._value

    def exception(self) -> BaseException | None:
        if not self._done:
            raise InvalidStateError("the future is not done yet")
        if type(self._error) is CancelledError:
            raise self._error
        return self._error

    def set_result(self, value: Any) -> None:
        if self._done:
            raise InvalidStateError("the future is already done")
        self._value = value
        self._done = True
        self._done_s = self._loop.now_s
        if self._waiting is not None:
            self._loop.due.extend(self._waiting)

    def set_exception(self, error: BaseException | type[BaseException]) -> None:
        self._error = error() if isinstance(error, type) else error
        self.set_result(None)

    def cancel(self, msg: Any = None) -> bool:
        if self._done:
            return False
        self._end_cancelled(msg)
        return True

    def _end_cancelled(self, message: Any) -> None:
        self._cancel_message = message
        self.set_exception(self._make_cancelled_error())

    def _make_cancelled_error(self) -> CancelledError:  # asyncio.gather asks for it
        return CancelledError() if self._cancel_message is None else CancelledError(self._cancel_message)

    def add_done_callback(self, callback: Callable[[Any], Any], *, context: Context | None = None) -> None:
        self.wake_when_done((copy_context() if context is None else context, callback, (self,)))

    def wake_when_done(self, waiting: VirtualTask | Callback) -> None:
        """Schedule a task or callback for when this future is done."""
        if self._done:
            self._loop.due.append(waiting)
        elif self._waiting is None:
            self._waiting = [waiting]
        else:
            self._waiting.append(waiting)

    def remove_done_callback(self, callback: Callable[[Any], Any]) -> int:
        waiting = self._waiting or []
        self._waiting = [entry for entry in waiting if not (isinstance(entry, tuple) and entry[1] == callback)]
        return len(waiting) - len(self._waiting)


class VirtualTask(VirtualFuture):
    """A running coroutine, with the interface of `asyncio.Task`.

    The coroutine yields a future to wait for, or a number: the time at which it continues. It starts now, or when
    ``after`` is done.
    """

    __slots__ = (
        "_awaited",
        "_context",
        "_coroutine",
        "_log_destroy_pending",  # read by asyncio; there is no log
        "_must_cancel",
        "_name",
        "_num_cancels",
        "_resume",
        "timer",  # number of the timer that it waits for
    )

    def __init__(
        self, coroutine: Steps, loop: VirtualLoop, context: Context, *, after: VirtualFuture | None = None
    ) -> None:
        VirtualFuture.__init__(self, loop)
        self._coroutine: Steps = coroutine
        self._context = context
        self._resume: Callable[[], Any] = partial(context.run, coroutine.send, None)
        self._name = "call"  # numbering the tasks would take time
        self._awaited: Any = None
        self._must_cancel = False
        self._num_cancels = 0
        self.timer = -1
        loop.unfinished.add(self)
        if after is None or after._done:
            loop.due.append(self)
        else:
            self._awaited = after
            after.wake_when_done(self)

    def get_name(self) -> str:
        return self._name

    def set_name(self, name: str) -> None:
        self._name = name

    def get_coro(self) -> Steps:
        return self._coroutine

    def get_context(self) -> Context:
        return self._context

    def cancel(self, msg: Any = None) -> bool:
        if self._done:
            return False
        self._num_cancels += 1
        if self._awaited is not None and self._awaited.cancel(msg):
            return True
        if self.timer >= 0:
            self.timer = -1
            self._loop.due.append(self)
        self._must_cancel = True
        self._cancel_message = msg
        return True

    def cancelling(self) -> int:
        return self._num_cancels

    def uncancel(self) -> int:
        self._num_cancels = max(0, self._num_cancels - 1)
        return self._num_cancels

    def step(self) -> None:
        """Run the coroutine until it waits again or ends."""
        loop = self._loop
        self._awaited = None
        self.timer = -1
        _enter_task(loop, self)  # type: ignore[arg-type]
        try:
            if self._must_cancel:
                self._must_cancel = False
                error = self._make_cancelled_error()
                awaited = self._context.run(self._coroutine.throw, error)
            else:
                awaited = self._resume()
        except StopIteration as end:
            loop.unfinished.discard(self)
            if self._must_cancel:  # canceled during its last step
                self._end_cancelled(self._cancel_message)
            else:
                self.set_result(end.value)
        except (KeyboardInterrupt, SystemExit) as error:
            loop.unfinished.discard(self)
            self.set_exception(error)
            raise
        except BaseException as error:
            loop.unfinished.discard(self)
            self.set_exception(error)
        else:
            if type(awaited) is float:
                self.timer = number = next(loop.numbers)
                heappush(loop.timers, (awaited, number, self))
            elif awaited is None:  # let other tasks run first
                loop.due.append(self)
            else:
                self._awaited = awaited
                if isinstance(awaited, asyncio.Future):
                    awaited._asyncio_future_blocking = False
                    awaited.add_done_callback(self._wake, context=_EMPTY_CONTEXT)
                else:
                    awaited.wake_when_done(self)
            if self._must_cancel:  # canceled during this step
                self._must_cancel = False
                self._num_cancels -= 1
                self.cancel(self._cancel_message)
        finally:
            _leave_task(loop, self)  # type: ignore[arg-type]

    def _wake(self, _: Any) -> None:
        self.step()

    def ring(self, number: int) -> None:
        """Continue if the timer with this number is still awaited."""
        if number == self.timer:
            self.step()
