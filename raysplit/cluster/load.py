"""Measurement of the parties' load: the time each waits for others, and how many calls it has open at once."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Generic, TypeVar

from raysplit.cluster.contract import PartyLoad
from raysplit.cluster.spent import Coding, errors_of_both

K = TypeVar("K", bound=Hashable)


class Span:
    """A context manager that calls one function when it is entered and another when it is left."""

    __slots__ = ("_begin", "_end", "_names")

    def __init__(self, begin: Callable[..., None], end: Callable[..., None], *names: str) -> None:
        self._begin, self._end, self._names = begin, end, names

    def __enter__(self) -> None:
        self._begin(*self._names)

    def __exit__(self, *raised: object) -> None:
        self._end(*self._names)


class Stopwatches(Generic[K]):
    """Stopwatches by key; one that is started several times runs until it is stopped as often.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._open: Counter[K] = Counter()
        self._since: dict[K, float] = {}
        self._passed: defaultdict[K, float] = defaultdict(float)

    def start(self, key: K) -> None:
        """Start one, or let it run on."""
        self._open[key] += 1
        if self._open[key] == 1:
            self._since[key] = self._clock()

    def stop(self, key: K) -> None:
        """Take one start back; the last one stops it."""
        self._open[key] -= 1
        if not self._open[key]:
            self._passed[key] += self._clock() - self._since[key]

    def taken(self) -> dict[K, float]:
        """Return the seconds since the previous call; those that run go on from here."""
        now = self._clock()
        for key, number in self._open.items():
            if number:
                self._passed[key] += now - self._since[key]
                self._since[key] = now
        found = dict(self._passed)
        self._passed.clear()
        self._open = +self._open
        return found


class LoadMeter:
    """The loads of all parties of one process.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._waits = Stopwatches[str](clock)
        self._waits_for = Stopwatches[tuple[str, str]](clock)
        self._open: Counter[str] = Counter()
        self._peak: Counter[str] = Counter()

    def waiting(self, party: str, other: str) -> Span:
        """Return the context in which the party waits for an answer of the other one."""
        return Span(self._wait, self._end_wait, party, other)

    def answering(self, party: str) -> Span:
        """Return the context in which the party has an unanswered call."""
        return Span(self._take, self._answer, party)

    def _wait(self, party: str, other: str) -> None:
        self._waits.start(party)
        self._waits_for.start((party, other))

    def _end_wait(self, party: str, other: str) -> None:
        self._waits.stop(party)
        self._waits_for.stop((party, other))

    def _take(self, party: str) -> None:
        self._open[party] += 1
        self._peak[party] = max(self._peak[party], self._open[party])

    def _answer(self, party: str) -> None:
        self._open[party] -= 1

    def taken(self) -> list[PartyLoad]:
        """Return the loads since the previous call, sorted by party, and restart the measurement."""
        waits, each_s = self._waits.taken(), defaultdict[str, dict[str, float]](dict)
        for (party, other), wait_s in self._waits_for.taken().items():
            each_s[party][other] = wait_s
        found = [
            PartyLoad(party=p, wait_s=waits.get(p, 0.0), peak_calls=self._peak[p], wait_s_for=each_s[p])
            for p in sorted({*waits, *self._peak})
        ]
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
            errors=errors_of_both(before.errors, load.errors),
            wait_s_for=added(before.wait_s_for, load.wait_s_for),
        )
    return [total[party] for party in sorted(total)]


def added(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Return the sum of both under each name that either has."""
    return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in {**one, **other}}
