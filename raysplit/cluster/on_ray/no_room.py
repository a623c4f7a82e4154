"""The message for places that found no room: what is missing, on which kind of machine, and what to do.

Ray leaves a placement group without room pending and gives no reason. The functions are pure: machines are records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from raysplit.cluster.layout import PlaceSpec

_ENOUGH = 1e-4  # Ray keeps four decimals


@dataclass(frozen=True, kw_only=True)
class MachineRoom:
    """A machine of the cluster: its kind, its total and its unreserved resources, and its labels."""

    kind: str
    total: Mapping[str, float]
    free: Mapping[str, float]
    labels: Mapping[str, str] = field(default_factory=dict)


def no_room(
    places: Sequence[PlaceSpec], machines: Sequence[MachineRoom], *, strategy: str, waited_s: float, autoscaled: bool
) -> str:
    """Return the message for places that found no room.

    Args:
        places: all places that were requested together.
        machines: machines of the cluster.
        strategy: Ray's placement strategy.
        waited_s: seconds that were waited for room.
        autoscaled: whether the cluster has an autoscaler.
    """
    reasons = short_of(places, machines) or _unfitting(places, machines) or [_spread(places, machines, strategy)]
    asked = (
        "the autoscaler did not add enough machines in this time: raise cluster.placement_timeout_s or the maximum of "
        "that kind of machine"
        if autoscaled
        else "the cluster has no autoscaler"
    )
    return (
        f"no room for {len(places)} places after {waited_s:g} s ({'; '.join(reasons)}); {asked}; "
        f"or use fewer places or a larger cluster"
    )


def short_of(places: Sequence[PlaceSpec], machines: Sequence[MachineRoom]) -> list[str]:
    """Return a text for each resource that all machines together lack now, with the kinds that offer it."""
    wanted: Counter[str] = Counter()
    for place in places:
        wanted.update(place.bundle())
    lines = []
    for name, amount in wanted.items():
        free, total = (sum(side.get(name, 0.0) for side in sides) for sides in _sides(machines))
        if free < amount - _ENOUGH:
            lines.append(f"{name}: {amount:g} wanted, {free:g} free of {total:g}{_offered(name, machines)}")
    return lines


def _sides(machines: Sequence[MachineRoom]) -> tuple[list[Mapping[str, float]], list[Mapping[str, float]]]:
    return [machine.free for machine in machines], [machine.total for machine in machines]


def _offered(name: str, machines: Sequence[MachineRoom]) -> str:
    kinds = sorted({machine.kind for machine in machines if machine.total.get(name, 0.0) > 0})
    if not kinds:
        others = sorted({machine.kind for machine in machines})
        return f", which no machine offers (machines: {', '.join(others) or 'none'})"
    return f" on {', '.join(kinds)}"


def _unfitting(places: Sequence[PlaceSpec], machines: Sequence[MachineRoom]) -> list[str]:
    """Return a text for each place that fits on no machine now, with what each kind lacks for it."""
    lines: dict[str, None] = {}
    for place in places:
        lacks: dict[str, str] = {}
        for machine in machines:
            missing = _missing(place, machine)
            if not missing:
                break
            lacks.setdefault(machine.kind, missing)
        else:
            kinds = "; ".join(f"{kind} lacks {missing}" for kind, missing in lacks.items())
            lines[f"no machine has room for a place like {place.name}: {kinds}"] = None
    return list(lines)


def _missing(place: PlaceSpec, machine: MachineRoom) -> str:
    wrong = [f"the label {key}={value}" for key, value in place.labels.items() if machine.labels.get(key) != value]
    wrong += [
        f"{name} ({amount:g} wanted, {machine.free.get(name, 0.0):g} free)"
        for name, amount in place.bundle().items()
        if machine.free.get(name, 0.0) < amount - _ENOUGH
    ]
    return ", ".join(wrong)


def _spread(places: Sequence[PlaceSpec], machines: Sequence[MachineRoom], strategy: str) -> str:
    if strategy == "STRICT_SPREAD" and len(places) > len(machines):
        return f"STRICT_SPREAD needs {len(places)} machines and there are {len(machines)}"
    return f"each place fits alone, but not all together under {strategy} on {len(machines)} machines"
