"""The clocks by which runs are paced or simulated; nobody who asks one knows whether its time is real.

They count in described seconds. On the wall clock one described second takes ``time_scale`` real ones; the virtual
clock (`raysplit.cluster.simulated.loop`) jumps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """Counts described seconds since the start of the run."""

    def time_s(self) -> float:
        """The time it is."""
        ...

    def now_s(self) -> float:
        """The time up to which the running call is accounted for: what follows starts here."""
        ...

    def reach(self, when_s: float) -> Awaitable[None]:
        """Let the running call get to this time; at once if it has passed."""
        ...


_reached_s: ContextVar[float | None] = ContextVar("reached_s", default=None)


def reached_s() -> float | None:
    """The time that the running call has reached on a wall clock; None where there is none."""
    return _reached_s.get()


def go_on_from(when_s: float | None) -> None:
    """Account for the running call up to this time: it has waited for a call that got there."""
    before_s = _reached_s.get()
    if when_s is not None and (before_s is None or when_s > before_s):
        _reached_s.set(when_s)


@dataclass(frozen=True, kw_only=True)
class WallClock:
    """Real time, divided by the time scale.

    Sleeping is late by a millisecond here and there, by much more on a busy machine. So that this does not add up, a
    call goes on from the time that it was to reach, not from the time at which it woke, and catches up by sleeping
    less; unless it lags behind by more than the slack.

    Args:
        started_s: when the run began, in seconds since the epoch; the same in all places.
        time_scale: real seconds per described second; 0.1 runs ten times as fast as described.
        slack_real_s: how much a call may have to catch up.
    """

    started_s: float
    time_scale: float = 1.0
    slack_real_s: float = 1.0

    def __post_init__(self) -> None:
        if not self.time_scale > 0:
            raise ValueError(f"time_scale is {self.time_scale}; 1 is real time, 0.1 runs ten times as fast")

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
