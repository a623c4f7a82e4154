"""Record rounds of an algorithm with a few owners, who stand for all owners of their kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raysplit.actors.records import RoundContext
from raysplit.algorithms import ALGORITHMS
from raysplit.algorithms.base import Algorithm
from raysplit.cluster.contract import PartySpec
from raysplit.cluster.emulation.machines import Emulation
from raysplit.cluster.links.rules import LinkRules
from raysplit.prediction.compiled.recorded_parties import RecordedNetwork, RecordingCluster
from raysplit.prediction.compiled.recording import RecordedTask, Recording
from raysplit.prediction.compiled.unknown import CannotBeRecorded
from raysplit.prediction.dry_parties import dry_parties
from raysplit.prediction.reference import cohort_names

Counts = dict[tuple[str, str], dict[str, list[int]]]
"""Bytes, bytes without a codec and messages by kind of value, by source and destination."""


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """The owners of a round.

    Attributes:
        context: the instruction of the round.
        kinds: the kind of each owner of the cohort.
        standing: names of the owners that are recorded: two of each kind where there are two, in the cohort's order.
        num_recorded: the number of their mini-batches.
    """

    context: RoundContext
    kinds: tuple[Hashable, ...]
    standing: tuple[str, ...]
    num_recorded: int


def cohort_of(context: RoundContext, kind_of: Callable[[str], Hashable]) -> Cohort:
    """Find the kinds of the owners of a round, and the first and the last owner of each kind."""
    kinds = tuple((kind_of(name), steps) for name, steps in zip(context.cohort, context.num_steps, strict=True))
    first: dict[Hashable, int] = {}
    last: dict[Hashable, int] = {}
    for place, kind in enumerate(kinds):
        first.setdefault(kind, place)
        last[kind] = place
    places = sorted({*first.values(), *last.values()})
    standing = tuple(context.cohort[i] for i in places)
    num_recorded = sum(context.num_steps[i] for i in places)
    return Cohort(context=context, kinds=kinds, standing=standing, num_recorded=num_recorded)


def cohorts_of(
    algorithm: Algorithm,
    parties: Sequence[PartySpec],
    device_of: Mapping[str, str],
    places: Mapping[str, str],
    rounds: int,
) -> list[Cohort]:
    """Draw the owners of every round, and find their kinds.

    Owners are of one kind if they have the same machine, as many samples, the same parts and rules, and the same
    `Algorithm.kind_of`.

    Args:
        algorithm: the algorithm.
        parties: the parties of the run.
        device_of: the device of every owner.
        places: the place of every party, where several share one.
        rounds: the number of rounds.

    Raises:
        CannotBeRecorded: rounds may end without some of their owners.
    """
    if algorithm.setting.cohort.is_open:
        raise CannotBeRecorded("rounds that may end without some owners (cohort rules) depend on who is in time")
    method = type(algorithm)
    says_kinds = method in ALGORITHMS.values() or "kind_of" in vars(method)
    kinds: dict[str, int] = {}
    numbers: dict[Hashable, int] = {}
    for party in parties:
        if party.role == "owner":
            given, name = party.arguments, party.name
            parts: tuple[Any, ...] = tuple(map(id, given["recipes"]))
            own = algorithm.kind_of(name) if says_kinds else name
            kind = own, device_of[name], places.get(name), len(given["shard"]), parts, given["training"]
            kinds[name] = numbers.setdefault(kind, len(numbers))
    return [
        cohort_of(algorithm.context(round, cohort_names(algorithm, round)), kinds.__getitem__)
        for round in range(rounds)
    ]


@dataclass(kw_only=True)
class Recorded:
    """What was recorded of several rounds.

    Attributes:
        emulation: the machines.
        main: the coordinator's task; operations ``"mark"`` are the beginnings and ends of rounds.
        tasks: all tasks, in the order in which they were started.
        rounds: the number of the round in which each task was started.
        network: links between the parties that were recorded.
        traffic: counts by round and owner, or None for what belongs to no owner.
    """

    emulation: Emulation
    main: RecordedTask
    tasks: list[RecordedTask]
    rounds: list[int]
    network: RecordedNetwork
    traffic: Mapping[tuple[int, str | None], Counts] = field(default_factory=dict)


def record(
    algorithm: Algorithm,
    parties: Sequence[PartySpec],
    cohorts: Sequence[Cohort],
    emulate: Callable[[Sequence[PartySpec]], Emulation],
    links: LinkRules,
    *,
    tell_apart: bool,
) -> Recorded:
    """Run the rounds with the owners that stand for the others, and record what all parties do.

    Args:
        algorithm: the algorithm, which has not run.
        parties: the parties to deploy: these owners, and all others.
        cohorts: the owners of each round.
        emulate: function that describes the machines of the parties.
        links: codecs of the run.
        tell_apart: whether the tasks of each owner are kept apart; otherwise all are recorded as they are.

    Raises:
        CannotBeRecorded: the algorithm depends on more than its own calls.
    """
    dry = dry_parties(parties)
    emulation = emulate(dry)
    network = emulation.network = RecordedNetwork.of(emulation.network)
    if emulation.has_hosts:
        raise CannotBeRecorded("devices share the cores of a host (topology.hosts)")
    owners = frozenset(name for cohort in cohorts for name in cohort.standing) if tell_apart else frozenset()
    recording = Recording(owners)  # type: ignore[abstract]  # what it lacks raises NotImplementedError
    traffic: defaultdict[tuple[int, str | None], Counts] = defaultdict(dict)
    rounds: list[int] = []
    now = [0]

    def count(source: str, destination: str, kind: str, num_bytes: int, raw_bytes: int) -> None:
        task = recording.current
        assert task is not None
        whose = next((end for end in (source, destination) if end in owners), task.owner)
        counts = traffic[now[0], None if recording.joint is not None else whose]
        counted = counts.setdefault((source, destination), {}).setdefault(kind, [0, 0, 0])
        counted[0] += num_bytes
        counted[1] += raw_bytes
        counted[2] += 1

    async def main() -> None:
        cluster = RecordingCluster(emulation, links, count)
        algorithm.attach(await cluster.deploy(dry))
        for cohort in cohorts:
            rounds.extend([now[0]] * (len(recording.tasks) - len(rounds)))
            now[0] = cohort.context.round
            recording.note("mark")
            await algorithm.round(_among(cohort.context, cohort.standing))
            recording.note("mark")

    task = recording.run(main())
    rounds.extend([now[0]] * (len(recording.tasks) - len(rounds)))
    _find_owners(recording, task)
    return Recorded(
        emulation=emulation, main=task, tasks=recording.tasks, rounds=rounds, network=network, traffic=traffic
    )


def _among(context: RoundContext, names: Sequence[str]) -> RoundContext:
    """Return the instruction for some of the owners of a round."""
    if len(names) == len(context.cohort):
        return context
    kept = set(names)
    places = [i for i, name in enumerate(context.cohort) if name in kept]
    return replace(
        context,
        cohort=tuple(names),
        weights=tuple(context.weights[i] for i in places),
        num_steps=tuple(context.num_steps[i] for i in places),
        row_weights=tuple(context.row_weights[i] for i in places) if context.row_weights else (),
        numbers=tuple(context.number(name) for name in names),
    )


def _find_owners(recording: Recording, main: RecordedTask) -> None:
    """Find the owner of tasks that the coordinator starts for one owner, such as waiting for its report."""
    for task in recording.tasks:
        if task.owner is not None or task is main:
            continue
        concerned = {on.owner for operation in task.operations for on in operation.on if isinstance(on, RecordedTask)}
        if len(concerned) == 1 and (owner := concerned.pop()) is not None:
            recording.belongs(task, owner)
