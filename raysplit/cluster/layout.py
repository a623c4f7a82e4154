"""The assignment of parties to places: pure decisions on plain records.

A *place* is one process. On a laptop several parties share a place, because a process takes 250 MB and a further owner
only its state. Parties that must not share a process, such as real data owners, get a place each. Results never depend
on the layout.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from raysplit.cluster.contract import PartySpec, Role, original

Sharing = Literal["auto", "alone"]


@dataclass(frozen=True, kw_only=True)
class PlaceSpec:
    """One process in one placement-group bundle.

    Attributes:
        name: name of the place, unique in a run.
        cpus: reserved CPUs; a fraction is bookkeeping of Ray, not a limit.
        gpus: reserved GPUs, likewise.
        memory_bytes: reserved memory; 0 reserves none.
        resources: custom resources, for example ``{"raspberry_pi_4": 1}``.
        labels: labels that the machine must have, for example ``{"site": "north"}``.
    """

    name: str
    cpus: float = 1.0
    gpus: float = 0.0
    memory_bytes: int = 0
    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def bundle(self) -> dict[str, float]:
        """Return the resources of the placement-group bundle."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self.memory_bytes), **self.resources}
        return {name: amount for name, amount in wanted.items() if amount > 0}


@dataclass(frozen=True, kw_only=True)
class Needs:
    """Resources and labels that one party asks of its place, in the terms of `PlaceSpec`."""

    resources: Mapping[str, float] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.resources or self.labels)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The places of a run, and the name of each party's place."""

    places: tuple[PlaceSpec, ...]
    place_of: Mapping[str, str]


def lay_out(
    parties: Sequence[PartySpec],
    *,
    num_places: int | None,
    cpus: float,
    gpus: float = 0.0,
    gpus_per_place: float | None = None,
    sharing: Sharing = "auto",
    work: Mapping[str, float] | None = None,
) -> Layout:
    """Assign parties to places.

    Args:
        num_places: largest number of processes; None takes one per CPU. Places without a party are left out.
        cpus: CPUs of the cluster; each place reserves an equal share, one at most.
        gpus: GPUs of the cluster, shared in the same way.
        gpus_per_place: GPUs that each place reserves instead of an equal share.
        sharing: ``"alone"`` gives every party a place of its own.
        work: computing time of each party in any unit; if given, the places get equal amounts of it.

    Raises:
        ValueError: if ``num_places`` is below 1.
    """
    if num_places is not None and num_places < 1:
        raise ValueError(f"num_places must be at least 1, got {num_places}")
    if sharing == "alone":
        names = {party.name: f"place-{party.name}" for party in parties}
    elif work is not None:
        names = _balanced(parties, num_places or max(1, int(cpus)), work)
    else:
        names = _shared(parties, num_places or max(1, int(cpus)))
    used = sorted(set(names.values()))
    share = min(1.0, cpus / len(used))
    gpu_share = min(1.0, gpus / len(used)) if gpus_per_place is None else gpus_per_place
    places = tuple(PlaceSpec(name=name, cpus=_rounded(share), gpus=_rounded(gpu_share)) for name in used)
    return Layout(places=places, place_of=names)


def lay_out_elastic(
    parties: Sequence[PartySpec],
    *,
    num_places: int | None,
    min_places: int,
    cpus_per_place: float,
    gpus_per_place: float = 0.0,
    apart: Collection[str] = (),
) -> Layout:
    """Assign parties to places that start one by one: owners to all places, the others to the first ``min_places``.

    Args:
        num_places: number of shared places; None gives every party a place of its own.
        min_places: number of places with which a run begins.
        cpus_per_place: CPUs that each place reserves.
        gpus_per_place: GPUs that each place reserves.
        apart: names of parties with a place of their own, beside the shared ones.

    Raises:
        ValueError: if ``min_places`` is above ``num_places``.
    """
    alone = [party for party in parties if num_places is None or party.name in apart]
    place_of = {party.name: f"place-{party.name}" for party in alone}
    if num_places is not None:
        if min_places > num_places:
            raise ValueError(f"a run of {num_places} places cannot begin with {min_places} places; lower min_places")
        others = [party for party in parties if party.name not in place_of]
        place_of |= _shared([party for party in others if party.role == "owner"], num_places)
        place_of |= _shared([party for party in others if party.role != "owner"], min_places)
    names = sorted(set(place_of.values()))
    places = tuple(PlaceSpec(name=name, cpus=cpus_per_place, gpus=gpus_per_place) for name in names)
    return Layout(places=places, place_of=place_of)


def with_needs(layout: Layout, needs: Mapping[str, Needs]) -> Layout:
    """Return the layout with a place of its own for every party that has needs, which that place then has.

    The places share the processors of the former ones equally; copies of a party go where it goes.
    """
    asking = {party: needs[original(party)] for party in layout.place_of if needs.get(original(party))}
    place_of = {
        party: f"place-{original(party)}" if party in asking else place for party, place in layout.place_of.items()
    }
    if not asking or not layout.places:
        return layout
    former, names = {place.name: place for place in layout.places}, sorted(set(place_of.values()))
    share = min(1.0, len(former) / len(names)) if len(names) > len(former) else 1.0
    places = []
    for name in names:
        own = former.get(name, layout.places[0])
        need = next((asking[party] for party, place in place_of.items() if place == name and party in asking), Needs())
        places.append(
            replace(
                own,
                name=name,
                cpus=_rounded(own.cpus * share),
                gpus=_rounded(own.gpus * share),
                resources={**own.resources, **need.resources},
                labels={**own.labels, **need.labels},
            )
        )
    return replace(layout, places=tuple(places), place_of=place_of)


def _rounded(share: float) -> float:
    return int(share * 10_000) / 10_000  # Ray keeps four decimals; rounding up could ask for more than there is


def _shared(parties: Sequence[PartySpec], num_places: int) -> dict[str, str]:
    """Assign each role to the places in turn, heavy roles first, so that the places have similar work."""
    place_of: dict[str, str] = {}
    roles: tuple[Role, ...] = ("owner", "node", "evaluator", "aggregator")
    for role in roles:
        members = [party for party in parties if party.role == role]
        # Few nodes start from the last place, which has fewer owners; with a node per place, each joins its owners.
        forward = role == "owner" or len(members) >= num_places
        order = range(num_places) if forward else range(num_places - 1, -1, -1)
        for party, place in zip(members, _cycle(list(order), len(members)), strict=True):
            place_of[party.name] = f"place-{place}"
    return place_of


def _balanced(parties: Sequence[PartySpec], num_places: int, work: Mapping[str, float]) -> dict[str, str]:
    """Assign parties in order of decreasing work, each to the place with the least work so far.

    The largest load is at most a third above the optimum (Graham, "Bounds on multiprocessing timing anomalies", 1969).
    """
    load = [0.0] * min(num_places, len(parties))
    place_of = {}
    for party in sorted(parties, key=lambda party: -work.get(party.name, 0.0)):
        place = min(range(len(load)), key=lambda place: load[place])
        load[place] += work.get(party.name, 0.0)
        place_of[party.name] = f"place-{place}"
    return place_of


def _cycle(places: list[int], count: int) -> list[int]:
    return [places[i % len(places)] for i in range(count)]
