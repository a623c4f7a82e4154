"""From recorded tasks to the programs of kinds of owners, and from work on some owners to loops over all of them."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raysplit.cluster.device import Work
from raysplit.prediction.compiled.record import Recorded
from raysplit.prediction.compiled.recorded_parties import Order
from raysplit.prediction.compiled.recording import Operation, RecordedTask
from raysplit.prediction.compiled.unknown import CannotBeRecorded

SELF = "\0"
"""The owner itself, in the place of its name."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """What the owners of one kind do in a round.

    Attributes:
        owner: the owner that was recorded.
        tasks: its tasks.
        slots: where the state of each task is kept while it runs and is awaited, counted from 0.
        num_slots: the number of slots.
    """

    owner: str
    tasks: tuple[RecordedTask, ...]
    slots: Mapping[RecordedTask, int]
    num_slots: int


def templates_of(
    recorded: Recorded, round: int, kinds: Mapping[str, Hashable], uses: Mapping[RecordedTask, int]
) -> dict[Hashable, Template]:
    """Return the template of each kind of owner in a round.

    Raises:
        CannotBeRecorded: two owners of a kind do not do the same.
    """
    tasks: defaultdict[str, list[RecordedTask]] = defaultdict(list)
    for task, started in zip(recorded.tasks, recorded.rounds, strict=True):
        if started == round and task.owner is not None:
            tasks[task.owner].append(task)
    found: dict[Hashable, Template] = {}
    forms: dict[Hashable, list[Any]] = {}
    for owner, kind in kinds.items():
        own = sorted(tasks[owner], key=lambda task: task.path)
        form = [(task.path, _joined(task), [canonical(op, owner) for op in task.operations]) for task in own]
        if kind not in found:
            forms[kind] = form
            slots = _slots(own, uses)
            found[kind] = Template(owner=owner, tasks=tuple(own), slots=slots, num_slots=max(slots.values()) + 1)
        elif form != forms[kind]:
            raise CannotBeRecorded(f"{owner} and {found[kind].owner} are of one kind and act differently")
    return found


def _joined(task: RecordedTask) -> Hashable:
    return None if task.joins is None else (task.joins.owner is None, task.joins.path)


def canonical(operation: Operation, owner: str) -> tuple[Any, ...]:
    """Return an operation in a form in which those of two owners can be compared."""
    return operation.name, *[_canonical(on, owner) for on in operation.on]


def _canonical(on: Any, owner: str) -> Any:
    if isinstance(on, RecordedTask):
        if on.owner is not None and on.owner != owner:
            raise CannotBeRecorded(f"{owner} waits for {on.owner}")
        return on.path if on.owner is not None else on
    if isinstance(on, Work):
        return on._replace(owner=SELF if on.owner == owner else on.owner)
    if isinstance(on, tuple):
        return tuple(_canonical(item, owner) for item in on)
    return SELF if on == owner else on


def uses_of(recorded: Recorded) -> dict[RecordedTask, int]:
    """Count how often each task is awaited, or the time of its end used, by anybody."""
    uses: dict[RecordedTask, int] = dict.fromkeys(recorded.tasks, 0)
    meetings = set()
    for task in recorded.tasks:
        for operation in task.operations:
            _count_uses(operation, uses)
            if operation.name == "meet" and operation.on[0] not in meetings:
                meetings.add(operation.on[0])
                for joint in operation.on[0].operations:
                    _count_uses(joint, uses)
    return uses


def _count_uses(operation: Operation, uses: dict[RecordedTask, int]) -> None:
    if operation.name == "await":
        uses[operation.on[0]] += 1
    elif operation.name == "carry" and operation.on[3] is not None:
        uses[operation.on[3]] += 1


def _slots(tasks: Sequence[RecordedTask], uses: Mapping[RecordedTask, int]) -> dict[RecordedTask, int]:
    """Give each task a slot that no other has at that time. The engine checks it, for another order of events."""
    own, left = set(tasks), dict(uses)
    changes: list[tuple[int, str, RecordedTask]] = [(task.ended, "end", task) for task in tasks]
    for task in tasks:
        for operation in task.operations:
            for on in operation.on:
                if isinstance(on, RecordedTask) and on in own and operation.name in ("start", "await", "carry"):
                    changes.append((operation.number, operation.name, on))
    started = {task for _, name, task in changes if name == "start"}
    changes += [(-1, "start", task) for task in tasks if task not in started]  # by the coordinator
    slots: dict[RecordedTask, int] = {}
    free: deque[int] = deque()
    ended: set[RecordedTask] = set()
    for _, name, task in sorted(changes, key=lambda change: change[0]):
        if name == "start":
            slots[task] = free.popleft() if free else len(set(slots.values()))
            continue
        if name == "end":
            ended.add(task)
        else:
            left[task] -= 1
        if task in ended and left[task] == 0:
            free.append(slots[task])
            left[task] = -1
    return slots


@dataclass(frozen=True, kw_only=True)
class Loop:
    """Operations that are done for one owner after the other, by kind of owner."""

    bodies: Mapping[Hashable, tuple[Operation, ...]]
    owners: Mapping[Hashable, str]


def with_loops(
    operations: Sequence[Operation], standing: Sequence[str], kinds: Mapping[str, Hashable]
) -> list[Operation | Loop]:
    """Find the loops over the owners of a round among operations that were recorded with some of them.

    Args:
        operations: what the coordinator does, or a joint work.
        standing: the owners that were recorded, in the order of the cohort.
        kinds: their kinds.

    Raises:
        CannotBeRecorded: operations on single owners are not those of a loop.
    """
    found: list[Operation | Loop] = []
    place = 0
    while place < len(operations):
        owner = concerned(operations[place], kinds)
        if owner is None:
            found.append(operations[place])
            place += 1
            continue
        loop, behind = _loop(operations, place, standing, kinds)
        if loop is not None:
            found.append(loop)
            place = behind
        elif owner == standing[0] and operations[place].name == "work":  # in the name of the first of all
            found.append(operations[place])
            place += 1
        else:
            raise CannotBeRecorded(f"{operations[place].name} concerns {owner} alone")
    return found


def concerned(operation: Operation, owners: Mapping[str, Any]) -> str | None:
    """Return the owner that an operation concerns; None for none or all."""
    if operation.name == "work":
        owner = operation.on[2].owner
        return owner if owner in owners else None
    if operation.name in ("start", "await"):
        return operation.on[0].owner  # type: ignore[no-any-return]
    return None


def _loop(
    operations: Sequence[Operation], place: int, standing: Sequence[str], kinds: Mapping[str, Hashable]
) -> tuple[Loop | None, int]:
    bodies: dict[Hashable, tuple[Operation, ...]] = {}
    owners: dict[Hashable, str] = {}
    for owner in standing:
        begin = place
        while place < len(operations) and concerned(operations[place], kinds) == owner:
            place += 1
        body, kind = tuple(operations[begin:place]), kinds[owner]
        if not body:
            return None, begin
        if kind in bodies:
            forms = [[canonical(op, name) for op in ops] for name, ops in ((owner, body), (owners[kind], bodies[kind]))]
            if forms[0] != forms[1]:
                return None, begin
        else:
            bodies[kind], owners[kind] = body, owner
    return Loop(bodies=bodies, owners=owners), place


def turns_of(recorded: Recorded) -> dict[Order, int]:
    """Return how many turns are waited for, in each order of turns."""
    operations = [operation for task in recorded.tasks for operation in task.operations]
    meetings = dict.fromkeys(operation.on[0] for operation in operations if operation.name == "meet")
    found: dict[Order, int] = {}
    for operation in [*operations, *[joint for meeting in meetings for joint in meeting.operations]]:
        if operation.name in ("turn", "passed"):
            turn = operation.on[1] if operation.name == "turn" else 0
            found[operation.on[0]] = max(found.get(operation.on[0], 0), turn + 1)
    return found


def number_together(
    tasks: Sequence[RecordedTask], owner: str | None, kinds: Mapping[str, Hashable], counts: Mapping[Hashable, int]
) -> int:
    """Return how many tasks are awaited together by all: those of an owner's own, and of all owners of other kinds."""
    per_owner = Counter(task.owner for task in tasks)
    number = sum(count for whose, count in per_owner.items() if whose is None or whose == owner)
    each = {kinds[whose]: count for whose, count in per_owner.items() if whose is not None and whose != owner}
    return number + sum(count * counts[kind] for kind, count in each.items())
