"""The log of an emulated run: who computed what, and what crossed which link, from when to when.

Millions of events fit: every column is a plain array, and names are kept once.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

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


class EventLog:
    """Events in the order in which they were logged."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._codes: dict[str, int] = {}
        self.party = array("i")
        self.device = array("i")
        self.kind = array("i")
        self.owner = array("i")
        self.round = array("i")
        self.step = array("i")
        self.start_s = array("d")
        self.end_s = array("d")
        self.num_bytes = array("q")

    def __len__(self) -> int:
        return len(self.start_s)

    def code(self, name: str) -> int:
        """The number that stands for a name."""
        number = self._codes.get(name)
        if number is None:
            number = self._codes[name] = len(self.names)
            self.names.append(name)
        return number

    def add(
        self,
        party: str,
        device: str,
        kind: str,
        owner: str,
        round: int,
        step: int,
        start_s: float,
        end_s: float,
        num_bytes: int = 0,
    ) -> None:
        """Log one event; the arguments are those of `Event`."""
        codes = self._codes
        try:
            self.party.append(codes[party])
            self.device.append(codes[device])
            self.kind.append(codes[kind])
            self.owner.append(codes[owner])
        except KeyError:
            for name in (party, device, kind, owner):
                self.code(name)
            for column in (self.party, self.device, self.kind, self.owner):
                del column[len(self.start_s) :]  # take back what went in before the unknown name
            self.add(party, device, kind, owner, round, step, start_s, end_s, num_bytes)
            return
        self.round.append(round)
        self.step.append(step)
        self.start_s.append(start_s)
        self.end_s.append(end_s)
        self.num_bytes.append(num_bytes)

    def clear(self) -> None:
        """Forget all events."""
        for column in (self.party, self.device, self.kind, self.owner, self.round, self.step):
            del column[:]
        for times in (self.start_s, self.end_s):
            del times[:]
        del self.num_bytes[:]

    def extend(self, other: EventLog) -> None:
        """Append the events of another log, for example another place's."""
        for event in other:
            self.add(
                event.party,
                event.device,
                event.kind,
                event.owner,
                event.round,
                event.step,
                event.start_s,
                event.end_s,
                event.num_bytes,
            )

    def __iter__(self) -> Iterator[Event]:
        names = self.names
        for i in range(len(self)):
            yield Event(
                party=names[self.party[i]],
                device=names[self.device[i]],
                kind=names[self.kind[i]],
                owner=names[self.owner[i]],
                round=self.round[i],
                step=self.step[i],
                start_s=self.start_s[i],
                end_s=self.end_s[i],
                num_bytes=self.num_bytes[i],
            )
