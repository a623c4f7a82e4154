"""How hard parties are pressed: how long each has waited for others, and how many calls it had before it at once."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from raysplit.cluster.contract import PartyLoad


class Span:
    """Calls one function at its beginning and one at its end."""

    __slots__ = ("_begin", "_end", "_party")

    def __init__(self, begin: Callable[[str], None], end: Callable[[str], None], party: str) -> None:
        self._begin, self._end, self._party = begin, end, party

    def __enter__(self) -> None:
        self._begin(self._party)

    def __exit__(self, *raised: object) -> None:
        self._end(self._party)


class LoadMeter:
    """Of the parties of one process.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._waits: Counter[str] = Counter()  # that are out now
        self._since: dict[str, float] = {}
        self._waited: defaultdict[str, float] = defaultdict(float)
        self._open: Counter[str] = Counter()
        self._peak: Counter[str] = Counter()

    def waiting(self, party: str) -> Span:
        """While this lasts, the party waits."""
        return Span(self._wait, self._waited_enough, party)

    def answering(self, party: str) -> Span:
        """While this lasts, the party has a call that it has not answered."""
        return Span(self._take, self._answer, party)

    def _wait(self, party: str) -> None:
        self._waits[party] += 1
        if self._waits[party] == 1:
            self._since[party] = self._clock()

    def _waited_enough(self, party: str) -> None:
        self._waits[party] -= 1
        if not self._waits[party]:
            self._waited[party] += self._clock() - self._since[party]

    def _take(self, party: str) -> None:
        self._open[party] += 1
        self._peak[party] = max(self._peak[party], self._open[party])

    def _answer(self, party: str) -> None:
        self._open[party] -= 1

    def taken(self) -> list[PartyLoad]:
        """Since this was last asked, sorted by party."""
        now = self._clock()
        for party, number in self._waits.items():
            if number:
                self._waited[party] += now - self._since[party]
                self._since[party] = now
        parties = sorted({*self._waited, *self._peak})
        found = [PartyLoad(party=p, wait_s=self._waited[p], peak_calls=self._peak[p]) for p in parties]
        self._waited.clear()
        self._peak = +self._open  # those that are still before it
        return found


def merge_loads(parts: Iterable[Sequence[PartyLoad]]) -> list[PartyLoad]:
    """One sorted table out of those of several processes."""
    waited: defaultdict[str, float] = defaultdict(float)
    peak: Counter[str] = Counter()
    for strain in (strain for part in parts for strain in part):
        waited[strain.party] += strain.wait_s
        peak[strain.party] += strain.peak_calls
    return [PartyLoad(party=p, wait_s=waited[p], peak_calls=peak[p]) for p in sorted(waited)]
