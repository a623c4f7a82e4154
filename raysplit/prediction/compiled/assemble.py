"""Assemble the program of a simulation from what was recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from raysplit.cluster.contract import original
from raysplit.cluster.device_queue import TASK_KINDS, task_kind
from raysplit.cluster.emulation.events import TRANSFER
from raysplit.prediction.compiled import program as code
from raysplit.prediction.compiled.program import NONE, Around, Program
from raysplit.prediction.compiled.record import Cohort, Recorded
from raysplit.prediction.compiled.recording import Operation, RecordedTask
from raysplit.prediction.compiled.templates import (
    SELF,
    Loop,
    Template,
    number_together,
    templates_of,
    turns_of,
    uses_of,
    with_loops,
)
from raysplit.prediction.compiled.unknown import CannotBeRecorded

_FOREVER = 1 << 30  # uses of a task of no owner, whose state is kept


class Assembler:
    """Makes the program of recorded rounds.

    Args:
        recorded: what was recorded.
        cohorts: the owners of each round.
        owners: numbers of all owners of the run by name.
        tell_apart: as for `record`.
    """

    def __init__(
        self, recorded: Recorded, cohorts: Sequence[Cohort], owners: Mapping[str, int], *, tell_apart: bool
    ) -> None:
        self._recorded = recorded
        self._cohorts = cohorts
        self._owners = owners
        self.program = Program(num_owners=len(owners))
        self._uses = uses_of(recorded)
        self._round_of = dict(zip(recorded.tasks, recorded.rounds, strict=True))
        self._kinds: list[dict[str, Hashable]] = []
        self._counts: list[Counter[Hashable]] = []
        self._templates: list[dict[Hashable, Template]] = []
        for cohort in cohorts:
            kinds = dict(zip(cohort.context.cohort, cohort.kinds, strict=True)) if tell_apart else {}
            standing = {name: kinds[name] for name in cohort.standing} if tell_apart else {}
            self._kinds.append(standing)
            self._counts.append(Counter(cohort.kinds))
            self._templates.append(templates_of(recorded, cohort.context.round, standing, self._uses))
        self._all_kinds: dict[Hashable, int] = {}
        self._begins: dict[RecordedTask, int] = {}
        self._joint_begins: dict[Any, int] = {}
        self._open: list[tuple[int, int, RecordedTask]] = []  # operations that name a task whose code is not there yet
        self._open_joint: list[tuple[int, Any]] = []
        self._meetings: dict[Any, int] = {}
        self._sums: dict[Any, int] = {}
        self._orders: dict[Any, int] = {}
        self._met: list[tuple[int, Any]] = []
        self._lists: dict[tuple[int, tuple[Hashable, ...]], int] = {}
        self._globals = {task: i for i, task in enumerate(t for t in recorded.tasks if t.owner is None)}
        self._times = 1  # how often the present operations are done, by all owners together

    def assemble(self) -> Program:
        """Return the program. Raises `CannotBeRecorded`."""
        program = self.program
        slots = [template.num_slots for templates in self._templates for template in templates.values()]
        program.num_slots = max(slots, default=0)
        program.num_tasks = len(self._globals)
        for round, templates in enumerate(self._templates):
            for kind, template in templates.items():
                self._times = self._counts[round][kind]
                for task in template.tasks:
                    self._task(task, round, template, Around(template.owner))
        self._times = 1
        for task in self._globals:
            self._task(task, self._round_of[task], None, Around())
        for round, meeting in self._met:
            self._joint(meeting, round)
        for place, field_, task in self._open:
            program.code[place][field_] = self._begins[task]
        for place, meeting in self._open_joint:
            program.code[place][5] = self._joint_begins[meeting]
        program.main_begins = self._begins[self._recorded.main]
        return program

    # -- tasks ---------------------------------------------------------------------------------------------------

    def _task(self, task: RecordedTask, round: int, template: Template | None, around: Around) -> None:
        self._begins[task] = len(self.program.code)
        if task is self._recorded.main:
            self._main(task)
        else:
            for operation in task.operations:
                self._operation(operation, round, around)
        mode, target = NONE, -1
        if task.joins is not None:
            if self._uses[task]:
                raise CannotBeRecorded("a task is awaited twice, once with others")
            mode, target = self._place(task.joins, around, round)
        self._emit(code.END, mode=mode, a=target, b=int(task is self._recorded.main))

    def _main(self, task: RecordedTask) -> None:
        parts: list[list[Operation]] = [[]]
        for operation in task.operations:
            if operation.name == "mark":
                parts.append([])
            else:
                parts[-1].append(operation)
        if any(parts[::2]):
            raise CannotBeRecorded("the coordinator does something between two rounds")
        for round, operations in enumerate(parts[1::2]):
            self._mark()
            self._all(operations, round, self._cohorts[round].standing)
            self._mark()

    def _mark(self) -> None:
        self._emit(code.MARK, a=self.program.num_marks)
        self.program.num_marks += 1

    def _joint(self, meeting: Any, round: int) -> None:
        self._joint_begins[meeting] = len(self.program.code)
        who = [task.owner for task in self._recorded.tasks for op in task.operations if op.on and op.on[0] is meeting]
        present = {owner for owner in who if owner is not None}
        standing = [name for name in self._cohorts[round].standing if name in present]
        self._all(meeting.operations, round, standing)
        self._emit(code.RELEASE, b=self._meetings[meeting])

    def _all(self, operations: Sequence[Operation], round: int, standing: Sequence[str]) -> None:
        kinds = self._kinds[round]
        if not kinds:
            for operation in operations:
                self._operation(operation, round, Around())
            return
        for item in with_loops(operations, standing, kinds):
            if isinstance(item, Loop):
                self._loop(item, round)
            else:
                self._operation(item, round, Around())

    def _loop(self, loop: Loop, round: int) -> None:
        program, number = self.program, len(self.program.loops)
        program.loops.append((self._list(round, tuple(loop.bodies)), len(program.bodies), 0))
        first = len(program.bodies)
        for kind in loop.bodies:
            self._all_kinds.setdefault(kind, len(self._all_kinds))
        program.bodies.extend([-1] * len(self._all_kinds))
        self._emit(code.LOOP, loop=number)
        for kind, body in loop.bodies.items():
            program.bodies[first + self._all_kinds[kind]] = len(program.code)
            self._times = self._counts[round][kind]
            for operation in body:
                self._operation(operation, round, Around(loop.owners[kind], number))
            self._times = 1
            self._emit(code.NEXT, loop=number)
        program.loops[number] = (*program.loops[number][:2], len(program.code))

    def _list(self, round: int, kinds: tuple[Hashable, ...]) -> int:
        key = round, kinds
        if key not in self._lists:
            for kind in kinds:
                self._all_kinds.setdefault(kind, len(self._all_kinds))
            cohort, wanted = self._cohorts[round], {kind: self._all_kinds[kind] for kind in kinds}
            chosen = [
                (self._owners[name], wanted[kind])
                for name, kind in zip(cohort.context.cohort, cohort.kinds, strict=True)
                if kind in wanted
            ]
            self._lists[key] = len(self.program.lists)
            self.program.lists.append(([owner for owner, _ in chosen], [kind for _, kind in chosen]))
        return self._lists[key]

    # -- operations ----------------------------------------------------------------------------------------------

    def _emit(
        self, op: int, *, mode: int = NONE, loop: int = 0, a: int = 0, b: int = 0, c: int = 0, d: int = 0, x: float = 0
    ) -> None:
        self.program.code.append([op, mode, loop, a, b, c, d])
        self.program.numbers.append(x)

    def _place(self, task: RecordedTask, around: Around, round: int) -> tuple[int, int]:
        """Return where the state of a task is: how its owner is found, and its slot."""
        if task.owner is None:
            return NONE, self._globals[task]
        if task.owner != around.owner or self._round_of[task] != round:
            raise CannotBeRecorded(f"a task of {task.owner} is awaited elsewhere")
        return around.mode, self._templates[round][self._kinds[round][task.owner]].slots[task]

    def _operation(self, operation: Operation, round: int, around: Around) -> None:
        getattr(self, f"_{operation.name.replace(' ', '_')}")(operation.on, round, around)

    def _start(self, on: tuple[Any, ...], round: int, around: Around) -> None:
        mode, slot = self._place(on[0], around, round)
        uses = self._uses[on[0]] if mode != NONE else _FOREVER
        self._open.append((len(self.program.code), 4, on[0]))
        self._emit(code.START, mode=mode, loop=max(0, around.loop), a=slot, c=uses)

    def _await(self, on: tuple[Any, ...], round: int, around: Around) -> None:
        mode, slot = self._place(on[0], around, round)
        self._open.append((len(self.program.code), 5, on[0]))
        self._emit(code.AWAIT, mode=mode, loop=max(0, around.loop), a=slot)

    def _await_all(self, on: tuple[Any, ...], round: int, around: Around) -> None:
        number = number_together(on[0], around.owner, self._kinds[round], self._counts[round])
        self._emit(code.ALL, c=number)

    def _work(self, on: tuple[Any, ...], round: int, around: Around) -> None:
        party, device, work, seconds = on
        owner, program = around.owner, self.program
        names = [SELF if owner is not None and name == owner else name for name in (party, device, work.owner)]
        key = (names[0], names[1], work.kind, names[2], work.round, work.step, 0)
        event = program.events.setdefault(key, len(program.events))
        own = names[1] == SELF
        number = -1 if own else program.num_owners + program.devices.setdefault(device, len(program.devices))
        served = -1 if names[2] == SELF else self._owners.get(work.owner, program.num_owners)
        mode = around.mode if SELF in names else NONE
        lane = TASK_KINDS.index(task_kind(work.kind))
        self._emit(code.WORK, mode=mode, loop=max(0, around.loop), a=event, b=number, c=lane, d=served, x=seconds)
        program.num_events += self._times

    def _carry(self, on: tuple[Any, ...], round: int, around: Around) -> None:
        source, destination, num_bytes, made = on
        program, owner = self.program, around.owner
        ends = [SELF if owner is not None and name == owner else name for name in (source, destination)]
        names = [name if name == SELF else original(name) for name in ends]
        key = (names[1], f"{names[0]} -> {names[1]}", TRANSFER, "", -1, -1, num_bytes)
        event = program.events.setdefault(key, len(program.events))
        rate, latency, up, down = self._recorded.network.link(source, destination)
        serial = [self._end(name) if is_serial else -1 for name, is_serial in zip(names, (up, down), strict=True)]
        link = program.links.setdefault((rate, latency, serial[0], serial[1]), len(program.links))
        made_mode, slot = (NONE, -1) if made is None else self._place(made, around, round)
        mode = around.mode if SELF in names else NONE
        if around.loop >= 0:
            raise CannotBeRecorded("the coordinator or a joint work sends something for each owner")
        self._emit(code.CARRY, mode=mode, a=event, b=link, c=slot, d=made_mode, x=float(num_bytes))
        program.num_events += self._times

    def _end(self, name: str) -> int:
        return -2 if name == SELF else self.program.ends.setdefault(name, len(self.program.ends))

    def _meet(self, on: tuple[Any, ...], round: int, around: Around) -> None:
        (meeting,) = on
        if meeting not in self._meetings:
            self._meetings[meeting] = len(self.program.meetings)
            self.program.meetings.append(0)
            self._met.append((round, meeting))
        number = self._meetings[meeting]
        self.program.meetings[number] += self._times
        self._open_joint.append((len(self.program.code), meeting))
        self._emit(code.MEET, b=number)

    def _submit(self, on: tuple[Any, ...], round: int, around: Around) -> None:
        number = self._sum(on[0])
        self.program.sums[number] += self._times
        self._emit(code.SUBMIT, b=number)

    def _mean(self, on: tuple[Any, ...], round: int, around: Around) -> None:
        self._emit(code.MEAN, b=self._sum(on[0]))

    def _sum(self, key: Any) -> int:
        if key not in self._sums:
            self._sums[key] = len(self.program.sums)
            self.program.sums.append(0)
        return self._sums[key]

    def _turn(self, on: tuple[Any, ...], round: int, around: Around) -> None:
        number = self._order(on[0])
        first, size = self.program.orders[number]
        self._emit(code.TURN, a=first, b=number, c=on[1])
        if on[1] >= size:
            raise CannotBeRecorded("a turn that never comes")

    def _passed(self, on: tuple[Any, ...], round: int, around: Around) -> None:
        number = self._order(on[0])
        first, size = self.program.orders[number]
        self._emit(code.PASSED, a=first, b=number, c=size)

    def _order(self, order: Any) -> int:
        if not self._orders:
            first = 0
            for number, (key, size) in enumerate(turns_of(self._recorded).items()):
                self._orders[key] = number
                self.program.orders.append((first, size))
                first += size
        return self._orders[order]
