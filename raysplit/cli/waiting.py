"""A line that shows how far a long command is: a bar on a terminal, now and then a line in a log."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from raysplit.cli.streams import Console

_LINE_EVERY_S = 30.0


class Waiting:
    """A context in which a terminal shows what a command does, for how long, and how much is left.

    Args:
        console: the console, of standard error.
        what: what the command does, such as ``simulating``.
        unit: what is counted, such as ``events``.
    """

    def __init__(self, console: Console, what: str, unit: str = "") -> None:
        self._console = console
        self._what = what
        self._unit = unit
        self._began_s = self._shown_s = time.monotonic()
        text = TextColumn("{task.description}")
        columns = (text, BarColumn(bar_width=20), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._task = None if self._bar is None else self._bar.add_task(what, total=None)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show that so many are done, and of how many if that is known."""
        text = f"{self._what}: {done:,} {self._unit}" if self._unit else f"{self._what}: {done:,}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=text, completed=done, total=total)
            return
        now_s = time.monotonic()
        if now_s - self._shown_s >= _LINE_EVERY_S:
            self._shown_s = now_s
            share = f" of {total:,} ({done / total:.0%})" if total else ""
            self._console.print(f"{text}{share} after {now_s - self._began_s:.0f} s", soft_wrap=True, highlight=False)
