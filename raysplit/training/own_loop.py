"""Run coroutines to completion, also where an event loop is already running, as in a notebook."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


@contextmanager
def kept_from_collection() -> Iterator[None]:
    """Keep what exists by now from the collector of cycles, which would go through all of it again and again.

    Modules of torch and Ray are hundreds of thousands of objects. Where the process has kept objects from it already,
    nothing changes.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine and return its result; where a loop is running, use another thread with a loop of its own.

    An interrupt (Ctrl-C, the stop button of a notebook) cancels the coroutine and is raised after its cleanup.
    """
    if not loop_is_running():
        return asyncio.run(work)
    runner, begun = asyncio.Runner(), threading.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def noted() -> T:
        tasks.append(asyncio.current_task())  # type: ignore[arg-type]
        begun.set()
        return await work

    def call() -> T:
        with runner:
            return runner.run(noted())

    def cancel() -> None:
        begun.wait()
        tasks[0].get_loop().call_soon_threadsafe(tasks[0].cancel)

    return in_a_thread(call, cancel)


def loop_is_running() -> bool:
    """Return whether an event loop is running in this thread."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def in_a_thread(function: Callable[[], T], interrupt: Callable[[], None] = lambda: None) -> T:
    """Run a function in a thread of its own, and return its result or raise its error here.

    On an interrupt, ``interrupt`` is called to end the function.
    """
    outcome: list[T] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            outcome.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=call, name="raysplit", daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        interrupt()
        thread.join()
        raise
    if errors:
        raise errors[0]
    return outcome[0]
