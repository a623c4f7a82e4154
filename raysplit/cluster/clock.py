"""Clocks that pace or simulate runs, behind one interface.

All times are emulated seconds. On the wall clock one emulated second takes ``time_scale`` real seconds; the virtual
clock (`raysplit.cluster.simulated.loop`) jumps from event to event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """A clock of emulated seconds since the start of the run."""

    def time_s(self) -> float:
        """Return the current time."""
        ...

    def now_s(self) -> float:
        """Return the time that the running call has reached: the start of its next work or transfer."""
        ...

    def reach(self, when_s: float) -> Awaitable[None]:
        """Wait until this time; return at once if it has passed."""
        ...


_reached_s: ContextVar[float | None] = ContextVar("reached_s", default=None)


def reached_s() -> float | None:
    """Return the time that the running call has reached on a wall clock, or None without a wall clock."""
    return _reached_s.get()


def go_on_from(when_s: float | None) -> None:
    """Move the running call forward to this time: the time reached by a call that it awaited."""
    before_s = _reached_s.get()
    if when_s is not None and (before_s is None or when_s > before_s):
        _reached_s.set(when_s)


@dataclass(frozen=True, kw_only=True)
class WallClock:
    """Real time, divided by the time scale.

    A sleep ends a millisecond late, and much later on a busy machine. To keep these delays from adding up, a call
    continues from the time that it was to reach, not from the time at which it woke, and sleeps less afterwards. A call
    that is late by more than the slack does not catch up the rest.

    Args:
        started_s: start of the run in seconds since the epoch; the same in all places.
        time_scale: real seconds per emulated second; 0.1 runs ten times as fast as real time.
        slack_real_s: largest delay, in real seconds, that a call catches up.
    """

    started_s: float
    time_scale: float = 1.0
    slack_real_s: float = 1.0

    def __post_init__(self) -> None:
        if not self.time_scale > 0:
            raise ValueError(
                f"time_scale must be above 0, got {self.time_scale}; 1 is real time, 0.1 is ten times as fast"
            )

    def time_s(self) -> float:
        return (time.time() - self.started_s) / self.time_scale

    def now_s(self) -> float:
        before_s, time_s = _reached_s.get(), self.time_s()
        return time_s if before_s is None else max(before_s, time_s - self.slack_real_s / self.time_scale)

    async def reach(self, when_s: float) -> None:
        missing_s = (when_s - self.time_s()) * self.time_scale
        if missing_s > 0:
            await asyncio.sleep(missing_s)
        go_on_from(when_s)
