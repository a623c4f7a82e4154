"""The event log of an emulated run: pieces of work and transfers, with their start and end times.

It holds millions of events: every column is a plain array, and each name is stored once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

TRANSFER = "transfer"


@dataclass(frozen=True, kw_only=True)
class Event:
    """A piece of work on a device, or a transfer over a link.

    Attributes:
        party: name of the party that worked or received.
        device: name of the emulated device, or of the link as ``sender -> receiver``.
        kind: kind of the work, or ``"transfer"``.
        owner: name of the owner whose batch is worked on; empty if there is none.
        round: number of the round, or -1.
        step: number of the step, or -1.
        start_s: start in emulated seconds since the start of the run.
        end_s: end in emulated seconds since the start of the run.
        num_bytes: size of a transfer; 0 for work.
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
_CHUNK = 1024 * _WIDTH  # values; small enough for the processor's cache


@dataclass(frozen=True, kw_only=True)
class Lateness:
    """The delay of real machines behind the machines that they emulate.

    Attributes:
        num_steps: number of pieces of work that take time on the described machine.
        num_late: number of these whose result came too late, for any reason.
        num_too_slow: number of these whose computation alone took longer than described.
        late_s: sum of the delays in emulated seconds.
        worst_late_s: largest delay in emulated seconds.
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
    def __missing__(self, name: str) -> int:
        code = self[name] = len(self)
        return code


class EventLog:
    """The events of a run, in the order in which they were logged. Iteration gives `Event` records.

    Attributes:
        lateness: delays of a paced run, by party and round.
    """

    def __init__(self) -> None:
        self.lateness: dict[tuple[str, int], Lateness] = {}
        self._codes = _Codes()
        self._recent: list[Any] = []  # values that are not in the columns yet, event after event
        self._columns = tuple(array(kind) for kind in "iiiiiiddq")

    @classmethod
    def of_columns(cls, names: Iterable[str], columns: Sequence[Any]) -> EventLog:
        """Return a log with these events: arrays in the order of `COLUMNS`, with names as indices into ``names``."""
        log = cls()
        log._codes.update({name: number for number, name in enumerate(names)})
        for own, values in zip(log._columns, columns, strict=True):
            own.frombytes(values.tobytes())
        return log

    @property
    def names(self) -> list[str]:
        """All names, each at the index that is its number."""
        return list(self._codes)

    def __len__(self) -> int:
        return len(self._columns[0]) + len(self._recent) // _WIDTH

    def add(self, row: EventRow) -> None:
        """Append one event."""
        recent = self._recent
        recent += row
        if len(recent) >= _CHUNK:
            self._store()

    def columns(self) -> dict[str, array[Any]]:
        """Return the columns by attribute of `Event`; names are given as indices into ``names``."""
        self._store()
        return dict(zip(COLUMNS, self._columns, strict=True))

    def extend(self, other: EventLog) -> None:
        """Append the events of another log, for example of another place."""
        for row in other.rows():
            self.add(row)
        for (party, round), lateness in other.lateness.items():
            self.add_lateness(party, round, lateness)

    def add_lateness(self, party: str, round: int, lateness: Lateness) -> None:
        """Add the delays of some steps of a party in a round."""
        self.lateness[party, round] = self.lateness.get((party, round), Lateness()) + lateness

    def lateness_since(self, round: int) -> dict[str, Lateness]:
        """Return the delays by party, summed over this round and the later ones."""
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
        """Iterate over the events as tuples of values, with names as text."""
        columns, names = self.columns(), self.names  # in this order: `columns` assigns numbers to new names
        named = [
            map(names.__getitem__, values) if column in NAME_COLUMNS else values for column, values in columns.items()
        ]
        return zip(*named, strict=True)

    def _store(self) -> None:
        for place, (name, column) in enumerate(zip(COLUMNS, self._columns, strict=True)):
            values = self._recent[place::_WIDTH]
            column.fromlist([*map(self._codes.__getitem__, values)] if name in NAME_COLUMNS else values)
        self._recent.clear()
