"""Simulate with the compiled engine: find the kinds of owners, record, run, and collect the events and the traffic."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raysplit.algorithms.base import Algorithm
from raysplit.cluster.contract import PartySpec
from raysplit.cluster.emulation.machines import Emulation
from raysplit.cluster.links.rules import LinkRules
from raysplit.prediction.compiled.assemble import Assembler
from raysplit.prediction.compiled.found import log_of, num_events, traffic_of, uses_of
from raysplit.prediction.compiled.program import Program
from raysplit.prediction.compiled.record import Cohort, record
from raysplit.prediction.compiled.state import Memory, memory_of
from raysplit.prediction.compiled.unknown import CannotBeRecorded
from raysplit.prediction.reference import Outcome, Progress, without_garbage_collection

_STEPS_BETWEEN = 3_000_000  # half a second


def replay(
    algorithm: Algorithm,
    parties: Sequence[PartySpec],
    cohorts: Sequence[Cohort],
    emulate: Callable[[Sequence[PartySpec]], Emulation],
    links: LinkRules,
    *,
    most_events: int,
    progress: Progress | None = None,
) -> Outcome:
    """Simulate rounds of an algorithm with the compiled engine.

    Args:
        algorithm: the algorithm, which has not run.
        parties: the parties of a run.
        cohorts: the owners of each round.
        emulate: function that describes the machines of some of the parties.
        links: codecs of the run.
        most_events: the largest number of events that are kept; of more, only the use of devices is.
        progress: function that is told the number of events now and then.

    Raises:
        CannotBeRecorded: the algorithm depends on more than its own calls.
    """
    owners = {name: number for number, name in enumerate(algorithm.setting.owners)}
    standing = {name for cohort in cohorts for name in cohort.standing}
    present = {name for cohort in cohorts for name in cohort.context.cohort}
    tell_apart = len(standing) < len(present)
    chosen = [party for party in parties if party.role != "owner" or party.name in standing]
    with without_garbage_collection():  # which would visit an object for every owner again and again
        recorded = record(algorithm, chosen, cohorts, emulate, links, tell_apart=tell_apart)
        program = Assembler(recorded, cohorts, owners, tell_apart=tell_apart).assemble()
        keep_events = program.num_events <= most_events
        memory = memory_of(program, recorded.emulation.policies, keep_events=keep_events)
        _run(program, memory, progress)
        marks, names = memory.marks_s.tolist(), list(owners)
        return Outcome(
            round_s=tuple(end - begin for begin, end in zip(marks[::2], marks[1::2], strict=True)),
            log=log_of(program, memory, names) if keep_events else None,
            traffic=traffic_of(recorded, cohorts, tell_apart=tell_apart, each=keep_events),
            num_events=num_events(memory),
            uses=() if keep_events else uses_of(program, memory, names),
        )


def _run(program: Program, memory: Memory, progress: Progress | None) -> None:
    from raysplit.prediction.compiled import engine, queues  # they load numba

    first = program.num_owners * program.num_slots
    memory.begun[first] = memory.at[first] = program.main_begins
    memory.uses[first] = 1 << 30
    memory.due[0], memory.s[queues.DUE_SIZE] = 4 * first + engine.STEP, 1
    while memory.s[queues.STATUS] == engine.RUNNING:
        engine.advance(memory, program.num_owners, program.num_slots, _STEPS_BETWEEN)
        if progress is not None:
            progress(num_events(memory), program.num_events)
    if memory.s[queues.STATUS] == engine.CONFLICT:
        raise CannotBeRecorded("tasks come in an order in which they were not recorded")
    if memory.s[queues.STATUS] == engine.DEADLOCK:
        raise CannotBeRecorded("all parties wait for one another")
