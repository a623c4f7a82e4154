"""Tasks and futures of a `VirtualLoop`.

A simulation is millions of short steps. These keep to what asyncio promises of its own tasks and futures, in the same
order, at a fraction of the cost: there is one loop, one thread, and nothing to log or debug.
"""

from __future__ import annotations

from asyncio import CancelledError, InvalidStateError, _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, copy_context
from functools import partial
from heapq import heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raysplit.cluster.virtual import VirtualLoop

Callback = tuple[Context, Callable[..., Any], tuple[Any, ...]]
_NOBODYS = Context()  # in which a task is woken; it steps in its own


class VirtualFuture:
    """A value to come, for whoever waits on the same loop; the contract of `asyncio.Future`.

    Those who wait go on in the order in which they came, behind all that is due at this instant already.
    """

    __slots__ = ("_cancel_message", "_done", "_error", "_loop", "_value", "_waiting")
    _asyncio_future_blocking = False  # by this, asyncio knows a future

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._waiting: list[VirtualTask | Callback] = []
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
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
            raise InvalidStateError("there is no result yet")
        if self._error is not None:
            raise self._error
        return self._value

    def exception(self) -> BaseException | None:
        if not self._done:
            raise InvalidStateError("it is not known yet whether it fails")
        if type(self._error) is CancelledError:
            raise self._error
        return self._error

    def set_result(self, value: Any) -> None:
        if self._done:
            raise InvalidStateError("it is done already")
        self._value = value
        self._done = True
        if self._waiting:
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
        entry = (copy_context() if context is None else context, callback, (self,))
        (self._loop.due if self._done else self._waiting).append(entry)

    def remove_done_callback(self, callback: Callable[[Any], Any]) -> int:
        kept = [entry for entry in self._waiting if not (isinstance(entry, tuple) and entry[1] == callback)]
        num_removed = len(self._waiting) - len(kept)
        self._waiting = kept
        return num_removed


class VirtualTask(VirtualFuture):
    """A running coroutine; the contract of `asyncio.Task`.

    What the coroutine waits for is a future, or a number: the time at which it goes on.
    """

    __slots__ = (
        "_awaited",
        "_context",
        "_coroutine",
        "_log_destroy_pending",
        "_must_cancel",
        "_name",
        "_num_cancels",
        "_resume",
        "timer",
    )

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        loop: VirtualLoop,
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> None:
        super().__init__(loop)
        self._coroutine = coroutine
        self._context = copy_context() if context is None else context  # an empty context is false
        self._resume: Callable[[], Any] = partial(self._context.run, coroutine.send, None)
        self._name = name or "call"  # a number for each takes long
        self._awaited: Any = None
        self._must_cancel = False
        self._num_cancels = 0
        self.timer = -1  # the number of the timer that it waits for
        loop.unfinished.add(self)
        loop.due.append(self)

    def get_name(self) -> str:
        return self._name

    def set_name(self, name: str) -> None:
        self._name = name

    def get_coro(self) -> Coroutine[Any, Any, Any]:
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
            if self._must_cancel:  # asked for in its last step
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
            self._wait_for(awaited)
        finally:
            _leave_task(loop, self)  # type: ignore[arg-type]

    def _wait_for(self, awaited: Any) -> None:
        loop, kind = self._loop, type(awaited)
        if kind is float:
            self.timer = number = next(loop.numbers)
            heappush(loop.timers, (awaited, number, self))
        elif kind is VirtualTask or kind is VirtualFuture:
            self._awaited = awaited
            (loop.due if awaited._done else awaited._waiting).append(self)
        elif awaited is None:  # others go first
            loop.due.append(self)
        else:
            self._awaited = awaited
            awaited._asyncio_future_blocking = False
            awaited.add_done_callback(self._wake, context=_NOBODYS)
        if self._must_cancel:  # asked for in this very step
            self._must_cancel = False
            self._num_cancels -= 1
            self.cancel(self._cancel_message)

    def _wake(self, _: Any) -> None:
        self.step()
