"""The time box of an attack: it stops at a step when its seconds are over, and says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

Tell = Callable[[str, int, int], None]
"""Function that is told the name of an attack, its steps so far and all of them."""


class Pace:
    """The steps of one attack.

    Args:
        name: of the attack, for its progress.
        seconds: after which it stops; None lets it run to its end.
        tell: is told of its progress.
        now: the time in seconds.

    Attributes:
        num_steps: steps so far.
        truncated: whether the time was over before the last step.
    """

    def __init__(
        self,
        name: str = "",
        seconds: float | None = None,
        tell: Tell | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._now = now
        self._began_s = now()
        self._end_s = None if seconds is None else self._began_s + seconds
        self._tell = tell
        self.num_steps = 0
        self.truncated = False

    @property
    def passed_s(self) -> float:
        """Seconds since the beginning."""
        return self._now() - self._began_s

    @property
    def is_over(self) -> bool:
        """Whether no time is left."""
        return self._end_s is not None and self._now() >= self._end_s

    def steps(self, total: int) -> Iterator[int]:
        """Iterate over ``total`` further steps, or as many as there is time for."""
        for step in range(total):
            if self.is_over:
                self.truncated = True
                return
            yield step
            self.num_steps += 1
            if self._tell is not None:
                self._tell(self._name, step + 1, total)
