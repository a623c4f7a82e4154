"""Run coroutines to their end, also where an event loop is running already, as in a notebook."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """What the coroutine returns. Beside a running loop it has a thread and a loop to itself, and this thread waits.

    An interrupt (Ctrl-C, a notebook's stop button) cancels the coroutine and is raised once that has cleaned up.
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
    """Whether this thread is inside a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def in_a_thread(function: Callable[[], T], interrupt: Callable[[], None] = lambda: None) -> T:
    """What the function returns in a thread of its own; its error is raised here. ``interrupt`` asks it to end."""
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
