"""The log of an emulated run: who computed what, and what crossed which link, from when to when.

Millions of events fit: every column is a plain array, and names are kept once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

TRANSFER = "transfer"


@dataclass(frozen=True, kw_only=True)
class Event:
    """A piece of work on a device, or a transfer (``kind`` "transfer", its device is the link).

    Attributes:
        party: who worked, or who received.
        device: the emulated device, or the link as ``sender -> receiver``.
        owner: on whose behalf; empty where nobody in particular's.
        round, step: -1 where there is none.
        start_s, end_s: in described seconds since the start of the run.
        num_bytes: of a transfer, else 0.
    """

    party: str
    device: str
    kind: str
    owner: str
    round: int
    step: int
    start_s: float
    end_s: float
    num_bytes: int = 0


COLUMNS = tuple(field.name for field in fields(Event))
NAME_COLUMNS = ("party", "device", "kind", "owner")
EventRow = tuple[str, str, str, str, int, int, float, float, int]
"""The values of an `Event`, in the order of its columns."""

_WIDTH = len(COLUMNS)
_CHUNK = 1024 * _WIDTH  # values; few enough to stay in a processor's cache


@dataclass(frozen=True, kw_only=True)
class Lateness:
    """How far real machines fell behind the described ones whose part they play.

    Attributes:
        num_steps: pieces of work that the described machine takes time for.
        num_late: those whose result was there later than it should have been, for whatever reason.
        num_too_slow: those whose computing alone took longer than described.
        late_s, worst_late_s: by how much those were late, in described seconds: together, and at most.
    """

    num_steps: int = 0
    num_late: int = 0
    num_too_slow: int = 0
    late_s: float = 0.0
    worst_late_s: float = 0.0

    def __add__(self, other: Lateness) -> Lateness:
        return Lateness(
            num_steps=self.num_steps + other.num_steps,
            num_late=self.num_late + other.num_late,
            num_too_slow=self.num_too_slow + other.num_too_slow,
            late_s=self.late_s + other.late_s,
            worst_late_s=max(self.worst_late_s, other.worst_late_s),
        )


class _Codes(dict[str, int]):
    """Numbers of names; a new name gets the next one."""

    def __missing__(self, name: str) -> int:
        code = self[name] = len(self)
        return code


class EventLog:
    """Events in the order in which they were logged; see `columns`.

    Attributes:
        lateness: of a paced run, by party and round.
    """

    def __init__(self) -> None:
        self.lateness: dict[tuple[str, int], Lateness] = {}
        self._codes = _Codes()
        self._recent: list[Any] = []  # what is not in the columns yet, event after event
        self._columns = tuple(array(kind) for kind in "iiiiiiddq")

    @property
    def names(self) -> list[str]:
        """All names, each at its number."""
        return list(self._codes)

    def __len__(self) -> int:
        return len(self._columns[0]) + len(self._recent) // _WIDTH

    def add(self, row: EventRow) -> None:
        """Log one event."""
        recent = self._recent
        recent += row
        if len(recent) >= _CHUNK:
            self._store()

    def columns(self) -> dict[str, array[Any]]:
        """The columns by the attributes of `Event`; the names are numbers of entries in ``names``."""
        self._store()
        return dict(zip(COLUMNS, self._columns, strict=True))

    def extend(self, other: EventLog) -> None:
        """Append the events of another log, for example another place's."""
        for row in other.rows():
            self.add(row)
        for (party, round), lateness in other.lateness.items():
            self.add_lateness(party, round, lateness)

    def add_lateness(self, party: str, round: int, lateness: Lateness) -> None:
        """Count some steps of a party in a round."""
        self.lateness[party, round] = self.lateness.get((party, round), Lateness()) + lateness

    def lateness_since(self, round: int) -> dict[str, Lateness]:
        """By party, in this round and those after it."""
        found: dict[str, Lateness] = {}
        for (party, when), lateness in sorted(self.lateness.items()):
            if when >= round:
                found[party] = found.get(party, Lateness()) + lateness
        return found

    def __iter__(self) -> Iterator[Event]:
        for row in self.rows():
            values: dict[str, Any] = dict(zip(COLUMNS, row, strict=True))
            yield Event(**values)

    def rows(self) -> Iterator[EventRow]:
        """The events as they were logged."""
        columns, names = self.columns(), self.names  # in this order: columns give names their numbers
        named = [
            map(names.__getitem__, values) if column in NAME_COLUMNS else values for column, values in columns.items()
        ]
        return zip(*named, strict=True)

    def _store(self) -> None:
        for place, (name, column) in enumerate(zip(COLUMNS, self._columns, strict=True)):
            values = self._recent[place::_WIDTH]
            column.fromlist([*map(self._codes.__getitem__, values)] if name in NAME_COLUMNS else values)
        self._recent.clear()
