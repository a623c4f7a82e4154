"""Tasks that are recorded instead of timed: what a coroutine starts, awaits and takes time for, in its order.

A `Recording` is an event loop on which nothing takes time. Awaiting a task, work on a device, a transfer and a meeting
are noted as operations of the task that is running. Whatever else a coroutine waits for cannot be recorded.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, NamedTuple

from raysplit.cluster.contract import current_party
from raysplit.prediction.compiled.unknown import CannotBeRecorded, Unknown


class Operation(NamedTuple):
    """An operation of a task.

    Attributes:
        name: its kind.
        number: its place in the order of all operations of a recording.
        on: what it concerns; see the methods that note it.
    """

    name: str
    number: int
    on: tuple[Any, ...]


class RecordedTask:
    """A coroutine whose operations are recorded, with the interface of `asyncio.Task` as far as it is needed.

    Attributes:
        owner: name of the owner whose round it belongs to; None for tasks of all owners.
        path: position in the tree of tasks, by which equal tasks of two owners are found.
        operations: what it does.
        ended: the number of its end in the order of all operations.
        joins: the task that awaits it together with others, by `asyncio.gather`.
    """

    _asyncio_future_blocking = False  # marks a future for asyncio

    def __init__(self, coroutine: Coroutine[Any, Any, Any], recording: Recording, context: Context) -> None:
        self.owner: str | None = None
        self.path: tuple[int, ...] = ()
        self.operations: list[Operation] = []
        self.ended = -1
        self.joins: RecordedTask | None = None
        self.num_children = 0
        self._coroutine = coroutine
        self._recording = recording
        self._context = context
        self._callbacks: list[tuple[Callable[..., Any], Context | None]] = []
        self._waiting: list[RecordedTask] = []
        self._result: Any = None
        self._error: BaseException | None = None

    def __await__(self) -> Generator[Any, None, Any]:
        self._recording.note("await", self)
        if self.ended < 0:
            yield self
        return self.result()

    def get_loop(self) -> Recording:
        return self._recording

    def done(self) -> bool:
        return self.ended >= 0

    def cancelled(self) -> bool:
        return False

    def cancel(self, msg: Any = None) -> bool:
        if not self._recording.has_ended:
            self._recording.refuse_failed()
            raise CannotBeRecorded("it cancels a task")
        return False

    def give_up(self) -> None:
        """End the coroutine, whatever it does about that."""
        with suppress(Exception):
            self._coroutine.close()

    def exception(self) -> BaseException | None:
        return self._error

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result

    def add_done_callback(self, callback: Callable[[Any], Any], *, context: Context | None = None) -> None:
        if getattr(callback, "__qualname__", "") != "gather.<locals>._done_callback":
            raise CannotBeRecorded(f"it lets {callback!r} follow a task")
        self._callbacks.append((callback, context))

    def wake(self, waiting: RecordedTask) -> None:
        """Continue a task when this one is done."""
        self._waiting.append(waiting)

    def party(self) -> str:
        """Name of the party whose coroutine it is."""
        return self._context.get(current_party, "")

    def step(self) -> None:
        """Run the coroutine until it waits or ends."""
        recording = self._recording
        recording.current = self
        try:
            awaited = self._context.run(self._coroutine.send, None)
        except StopIteration as end:
            self._result = end.value
            self._end()
        except CannotBeRecorded:
            raise
        except Exception as error:
            self._error = error
            self._end()
        else:
            self._wait_for(awaited)

    def _wait_for(self, awaited: Any) -> None:
        children = getattr(awaited, "_children", None)  # of asyncio.gather
        if children is not None:
            for child in children:
                child.joins = self
            self._recording.note("await all", tuple(children))
            awaited._asyncio_future_blocking = False
            awaited.add_done_callback(lambda _: self._recording.ready.append(self.step))
        elif isinstance(awaited, RecordedTask | Event):
            awaited.wake(self)
        else:
            raise CannotBeRecorded(f"{self.party()} waits for {type(awaited).__name__}")

    def _end(self) -> None:
        recording = self._recording
        self.ended = recording.next_number()
        for callback, context in self._callbacks:
            recording.call_soon(callback, self, context=context)
        recording.ready.extend(waiting.step for waiting in self._waiting)


class Event:
    """Something that tasks wait for outside of the recording, because an operation stands for it."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._done = False
        self._value: Any = None
        self._waiting: list[RecordedTask] = []

    def __await__(self) -> Generator[Any, None, Any]:
        if not self._done:
            yield self
        return self._value

    def done(self) -> bool:
        return self._done

    def set_result(self, value: Any) -> None:
        self._value, self._done = value, True
        self._recording.ready.extend(waiting.step for waiting in self._waiting)

    def wake(self, waiting: RecordedTask) -> None:
        self._waiting.append(waiting)

    def cancel(self) -> bool:
        """Do nothing: nobody waits at the end of a round."""
        return False


class Recording(asyncio.AbstractEventLoop):
    """The event loop of a recording.

    Args:
        owners: names of the owners whose tasks are told apart; none records all tasks as they are.

    Attributes:
        current: the task that is running.
        tasks: all tasks.
        ready: what runs next.
        has_ended: whether the recording is over.
        joint: the operations of the joint work that is running, instead of those of ``current``.
    """

    def __init__(self, owners: frozenset[str]) -> None:
        self.owners = owners
        self.current: RecordedTask | None = None
        self.tasks: list[RecordedTask] = []
        self.ready: deque[Callable[[], None]] = deque()
        self.joint: list[Operation] | None = None
        self.has_ended = False
        self._number = 0
        self._num_of_owner: dict[str, int] = {}

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def note(self, name: str, *on: Any) -> None:
        """Note an operation of the task that is running."""
        task = self.current
        assert task is not None
        if self.joint is not None:
            self.joint.append(Operation(name, self.next_number(), on))
            return
        self._find_owner(task)
        task.operations.append(Operation(name, self.next_number(), on))

    def _find_owner(self, task: RecordedTask) -> None:
        if task.owner is None and (party := current_party.get()) in self.owners:
            self.belongs(task, party)

    def belongs(self, task: RecordedTask, owner: str) -> None:
        """Note that a task without a parent of its own belongs to an owner's round."""
        task.owner = owner
        number = self._num_of_owner[owner] = self._num_of_owner.get(owner, -1) + 1
        task.path = (number,)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None
    ) -> RecordedTask:
        task = RecordedTask(coro, self, copy_context() if context is None else context)
        parent = self.current
        if parent is not None:
            if self.joint is not None:
                coro.close()
                raise CannotBeRecorded("joint work starts a task")
            self.note("start", task)
            if parent.owner is not None:
                task.owner, task.path = parent.owner, (*parent.path, parent.num_children)
                parent.num_children += 1
        self.tasks.append(task)
        self.ready.append(task.step)
        return task

    def create_future(self) -> Any:
        return Unknown()

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> None:
        self.ready.append(lambda: callback(*args) if context is None else context.run(callback, *args))

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def time(self) -> float:
        raise CannotBeRecorded("it reads the clock")

    def call_at(self, *_: Any, **__: Any) -> Any:  # type: ignore[override]
        raise CannotBeRecorded("it waits for a time")

    call_later = call_at  # type: ignore[assignment]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Do nothing: errors show where tasks are awaited."""

    def run(self, main: Coroutine[Any, Any, None]) -> RecordedTask:
        """Run a coroutine to its end, with all that it starts. Raises `CannotBeRecorded`, also for what it raises."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            while self.ready and not task.done():
                self.ready.popleft()()
        finally:
            self.has_ended = True
            for started in self.tasks:
                started.give_up()
            asyncio._set_running_loop(before)
        if not task.done():
            self.refuse_failed()
            raise CannotBeRecorded("tasks wait for one another")
        if task.exception() is not None:
            self.refuse_failed()
        return task

    def refuse_failed(self) -> None:
        """Raise `CannotBeRecorded` with the error of the first task that failed, if one did."""
        for error in (task.exception() for task in self.tasks):
            if error is not None:
                raise CannotBeRecorded(f"it fails when it is recorded ({type(error).__name__}: {error})") from error
