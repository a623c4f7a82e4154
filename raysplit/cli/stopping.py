"""Orderly ends of a command: SIGTERM ends it as Ctrl-C does, and the last line says how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class WayOn(str):
    """Note on an exception that says how to go on; the command line prints it as its last line."""

    __slots__ = ()


class StopSignals:
    """Handler that lets SIGTERM do what SIGINT does.

    Attributes:
        has_come: whether SIGTERM has come.
    """

    def __init__(self) -> None:
        self._number = signal.SIGINT
        self.has_come = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle SIGTERM in the block; a thread that is not the main one leaves signals alone."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._number, self.has_come = signal.Signals(number), True
        on_interrupt = signal.getsignal(signal.SIGINT)
        if callable(on_interrupt):  # the event loop's handler cancels its main task, so that all is written
            on_interrupt(signal.SIGINT, frame)
        else:  # a shell lets commands in the background ignore SIGINT
            raise KeyboardInterrupt

    @property
    def exit_code(self) -> int:
        """Exit code after a stop, by the custom of shells: 130 after SIGINT, 143 after SIGTERM."""
        return 128 + self._number


@contextmanager
def going_on(way: Callable[[], str], otherwise: str = "") -> Iterator[None]:
    """Note on what ends the block early how to go on, unless a mistake ended it.

    Args:
        way: returns how to go on, or nothing where there is nothing to go on with.
        otherwise: what is said in that case after a stop by a signal.
    """
    try:
        yield
    except (ValueError, ArithmeticError):  # ends in the same way again
        raise
    except BaseException as error:
        text = way() or ("" if isinstance(error, Exception) else otherwise)
        if text and not ways_on(error):
            error.add_note(WayOn(text))
        raise


def ways_on(error: BaseException) -> list[str]:
    """Return the notes of `going_on` on an exception, or on the one that it stands for."""
    while error.__cause__ is not None and not hasattr(error, "__notes__"):
        error = error.__cause__
    return [note for note in getattr(error, "__notes__", ()) if isinstance(note, WayOn)]
