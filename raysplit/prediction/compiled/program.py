"""The program of a simulation: numbered operations for the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

# the engine's operations
END, START, AWAIT, ALL, WORK, CARRY, MEET, RELEASE, TURN, PASSED, SUBMIT, MEAN, MARK, LOOP, NEXT = range(15)
# where the owner of an operation is found: the task's own, that of the loop, or none
OWN, OF_LOOP, NONE = range(3)

EventKind = tuple[str, str, str, str, int, int, int]
"""Party, device, kind, owner, round, step and bytes of an event, with `SELF` for the owner."""


@dataclass(frozen=True)
class Around:
    """What an operation is done for: an owner, and the loop over owners in which that happens."""

    owner: str | None = None
    loop: int = -1

    @property
    def mode(self) -> int:
        return NONE if self.owner is None else OF_LOOP if self.loop >= 0 else OWN


@dataclass(kw_only=True)
class Program:
    """A program for all owners.

    Attributes:
        num_owners: the number of owners of the run.
        num_slots: the number of tasks of an owner that there are at the same time, at most.
        code: operations as (operation, mode, loop, a, b, c, d).
        numbers: seconds or bytes of each operation.
        events: the kinds of events.
        links: bandwidth, latency, and the ends that carry one transfer at a time: -1 none, -2 the owner.
        ends: names of the parties other than owners that have such ends.
        devices: names of the devices other than owners' own.
        meetings, sums: how many take part in each meeting and average.
        orders: first list and number of lists of each order of turns.
        lists: owners and kinds, for loops.
        loops: list, first body and end of each loop.
        bodies: where the body of a loop begins, by kind.
        num_tasks: the number of tasks of no owner; the first is the coordinator.
        num_marks: the number of beginnings and ends of rounds.
        num_events: the number of events.
        main_begins: where the coordinator begins.
    """

    num_owners: int
    num_slots: int = 0
    code: list[list[int]] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    events: dict[EventKind, int] = field(default_factory=dict)
    links: dict[tuple[float, float, int, int], int] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    devices: dict[str, int] = field(default_factory=dict)
    meetings: list[int] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)
    orders: list[tuple[int, int]] = field(default_factory=list)
    lists: list[tuple[Sequence[int], Sequence[int]]] = field(default_factory=list)
    loops: list[tuple[int, int, int]] = field(default_factory=list)
    bodies: list[int] = field(default_factory=list)
    num_tasks: int = 0
    num_marks: int = 0
    num_events: int = 0
    main_begins: int = 0
