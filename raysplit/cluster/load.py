"""Measurement of the parties' load: the time each waits for others, and how many calls it has open at once."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from raysplit.cluster.contract import PartyLoad
from raysplit.cluster.links.spent import Coding, added


class Span:
    """A context manager that calls one function when it is entered and another when it is left."""

    __slots__ = ("_begin", "_end", "_party")

    def __init__(self, begin: Callable[[str], None], end: Callable[[str], None], party: str) -> None:
        self._begin, self._end, self._party = begin, end, party

    def __enter__(self) -> None:
        self._begin(self._party)

    def __exit__(self, *raised: object) -> None:
        self._end(self._party)


class LoadMeter:
    """The loads of all parties of one process.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._waits: Counter[str] = Counter()  # open waits, by party
        self._since: dict[str, float] = {}
        self._waited: defaultdict[str, float] = defaultdict(float)
        self._open: Counter[str] = Counter()
        self._peak: Counter[str] = Counter()

    def waiting(self, party: str) -> Span:
        """Return the context in which the party waits for an answer."""
        return Span(self._wait, self._end_wait, party)

    def answering(self, party: str) -> Span:
        """Return the context in which the party has an unanswered call."""
        return Span(self._take, self._answer, party)

    def _wait(self, party: str) -> None:
        self._waits[party] += 1
        if self._waits[party] == 1:
            self._since[party] = self._clock()

    def _end_wait(self, party: str) -> None:
        self._waits[party] -= 1
        if not self._waits[party]:
            self._waited[party] += self._clock() - self._since[party]

    def _take(self, party: str) -> None:
        self._open[party] += 1
        self._peak[party] = max(self._peak[party], self._open[party])

    def _answer(self, party: str) -> None:
        self._open[party] -= 1

    def taken(self) -> list[PartyLoad]:
        """Return the loads since the previous call, sorted by party, and restart the measurement."""
        now = self._clock()
        for party, number in self._waits.items():
            if number:
                self._waited[party] += now - self._since[party]
                self._since[party] = now
        parties = sorted({*self._waited, *self._peak})
        found = [PartyLoad(party=p, wait_s=self._waited[p], peak_calls=self._peak[p]) for p in parties]
        self._waited.clear()
        self._peak = +self._open  # the open calls count again
        return found


def with_coding(loads: Sequence[PartyLoad], coding: Mapping[str, Coding]) -> list[PartyLoad]:
    """Add what the coding of parties took and changed to their loads, sorted by party."""
    found = {load.party: load for load in loads}
    for party, took in coding.items():
        load = found.get(party, PartyLoad(party=party, wait_s=0.0, peak_calls=0))
        found[party] = replace(load, **took._asdict())
    return [found[party] for party in sorted(found)]


def merge_loads(parts: Iterable[Sequence[PartyLoad]]) -> list[PartyLoad]:
    """Merge the loads of several processes into one list, sorted by party."""
    total: dict[str, PartyLoad] = {}
    for load in (load for part in parts for load in part):
        before = total.get(load.party, PartyLoad(party=load.party, wait_s=0.0, peak_calls=0))
        total[load.party] = PartyLoad(
            party=load.party,
            wait_s=before.wait_s + load.wait_s,
            peak_calls=before.peak_calls + load.peak_calls,
            encode_s=before.encode_s + load.encode_s,
            decode_s=before.decode_s + load.decode_s,
            errors=added(before.errors, load.errors),
        )
    return [total[party] for party in sorted(total)]
