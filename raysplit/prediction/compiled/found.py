"""What the compiled engine has found, as a simulation shows it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from raysplit.cluster.contract import KindTraffic, LinkTraffic
from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.links.kinds import KINDS
from raysplit.prediction.compiled.program import Program
from raysplit.prediction.compiled.record import Cohort, Counts, Recorded
from raysplit.prediction.compiled.state import Memory
from raysplit.prediction.compiled.templates import SELF
from raysplit.prediction.timeline import DeviceUse, by_number

_LOGGED = 6  # place of the number of events among the engine's counters


def num_events(memory: Memory) -> int:
    """Return the number of events so far."""
    return int(memory.s[_LOGGED])


def uses_of(program: Program, memory: Memory, owners: Sequence[str]) -> tuple[DeviceUse, ...]:
    """Return the use of every device that has worked: shared places and nodes before owners."""
    span_s = float(memory.span[1] - memory.span[0])
    devices = sorted(program.devices, key=by_number)
    places = [*[len(owners) + program.devices[name] for name in devices], *range(len(owners))]
    return tuple(
        DeviceUse(
            device=name,
            busy_s=float(memory.use_busy_s[place]),
            idle_s=max(0.0, span_s - float(memory.use_busy_s[place])),
            longest_idle_s=max(0.0, float(memory.use_longest_s[place])),
            num_tasks=int(memory.use_tasks[place]),
        )
        for name, place in zip([*devices, *owners], places, strict=True)
        if memory.use_tasks[place]
    )


def log_of(program: Program, memory: Memory, owners: list[str]) -> EventLog:
    """Return the events that the engine kept."""
    size = num_events(memory)
    event, owner = memory.log_event[:size], memory.log_owner[:size]
    codes: dict[str, int] = {name: number for number, name in enumerate(owners)}
    columns: list[Any] = []
    for place in range(4):  # party, device, kind, owner
        static = np.zeros(len(program.events), np.int32)
        varies = np.zeros(len(program.events), np.bool_)
        for number, key in enumerate(program.events):
            text = key[place]
            assert isinstance(text, str)
            if text == SELF:
                varies[number] = True
            elif SELF in text:
                static[number] = len(codes)  # the first of as many names as there are owners
                varies[number] = True
                if text.replace(SELF, owners[0]) in codes:
                    static[number] = codes[text.replace(SELF, owners[0])]
                else:
                    codes |= {text.replace(SELF, name): len(codes) + i for i, name in enumerate(owners)}
            else:
                static[number] = codes.setdefault(text, len(codes))
        columns.append(static[event] + np.where(varies[event], owner, 0).astype(np.int32))
    values = np.array([key[4:] for key in program.events], np.int64).reshape(-1, 3)
    columns += [values[event, 0].astype(np.int32), values[event, 1].astype(np.int32)]
    columns += [memory.log_start_s[:size], memory.log_end_s[:size], values[event, 2]]
    return EventLog.of_columns(codes, columns)


def traffic_of(
    recorded: Recorded, cohorts: Sequence[Cohort], *, tell_apart: bool, each: bool
) -> tuple[LinkTraffic, ...]:
    """Return the traffic of every link; with ``each`` false, that of all owners that are alike on one link.

    Such a link bears the name of the first of them, and says how many they are.
    """
    total: Counts = {}
    for counts in (found for (_, owner), found in recorded.traffic.items() if owner is None):
        _add(total, counts)
    links: list[LinkTraffic] = []
    for stands, names in _alike(cohorts).items() if tell_apart else ():
        own: Counts = {}
        for round, name in stands:
            _add(own, recorded.traffic.get((round, name), {}), name)
        _add(total, {ends: by_kind for ends, by_kind in own.items() if SELF not in ends}, times=len(names))
        shown = names if each else [f"{names[0]} and {len(names) - 1:,} like it"]
        for (source, destination), by_kind in own.items():
            if SELF in (source, destination):
                one = _link(source, destination, by_kind, 1 if each else len(names))
                links += [
                    LinkTraffic(
                        source=name if source == SELF else source,
                        destination=name if destination == SELF else destination,
                        num_bytes=one.num_bytes,
                        num_messages=one.num_messages,
                        kinds=one.kinds,
                    )
                    for name in shown
                ]
    links += [_link(*ends, by_kind, 1) for ends, by_kind in total.items()]
    return tuple(sorted(links, key=lambda link: (link.source, link.destination)))


def _alike(cohorts: Sequence[Cohort]) -> dict[tuple[tuple[int, str], ...], list[str]]:
    """Group owners that are of the same kinds in all rounds, by the round and the owner that stands for each kind."""
    stands: dict[str, tuple[tuple[int, str], ...]] = {}
    for cohort in cohorts:
        firsts: dict[Hashable, str] = {}
        for name, kind in zip(cohort.context.cohort, cohort.kinds, strict=True):
            stands[name] = (*stands.get(name, ()), (cohort.context.round, firsts.setdefault(kind, name)))
    found: defaultdict[tuple[tuple[int, str], ...], list[str]] = defaultdict(list)
    for name, of_rounds in stands.items():
        found[of_rounds].append(name)
    return found


def _link(source: str, destination: str, by_kind: dict[str, list[int]], times: int) -> LinkTraffic:
    return LinkTraffic(
        source=source,
        destination=destination,
        num_bytes=times * sum(counted[0] for counted in by_kind.values()),
        num_messages=times * sum(counted[2] for counted in by_kind.values()),
        kinds=tuple(
            KindTraffic(kind, times * by_kind[kind][0], times * by_kind[kind][1]) for kind in KINDS if kind in by_kind
        ),
    )


def _add(total: Counts, counts: Counts, owner: str = "", times: int = 1) -> None:
    for (source, destination), by_kind in counts.items():
        ends = SELF if source == owner else source, SELF if destination == owner else destination
        into = total.setdefault(ends, {})
        for kind, counted in by_kind.items():
            before = into.get(kind, [0, 0, 0])
            into[kind] = [a + times * b for a, b in zip(before, counted, strict=True)]
