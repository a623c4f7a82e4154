"""Why places found no room: the resource, the kind of machine, the time waited, the way out."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from raysplit.cluster.contract import PartySpec
from raysplit.cluster.layout import PlaceSpec, lay_out
from raysplit.cluster.on_ray.no_room import MachineRoom, no_room, short_of
from raysplit.experiment.topology import Topology
from raysplit.prediction.machines import with_resources

PI = MachineRoom(kind="pi_4", total={"CPU": 1, "pi_4": 1}, free={"CPU": 1, "pi_4": 1}, labels={"site": "north"})
VM = MachineRoom(kind="vm", total={"CPU": 4, "vm": 1}, free={"CPU": 2, "vm": 1}, labels={"site": "south"})
text = partial(no_room, strategy="PACK", waited_s=30.0, autoscaled=False)


def place(name: str = "place-0", **changes: Any) -> PlaceSpec:
    return PlaceSpec(name=name, **changes)


def test_a_resource_that_nobody_offers_is_named_with_the_kinds_there_are() -> None:
    found = text([place(resources={"camera": 1})], [PI, VM])
    assert "no room for 1 places after 30 s" in found
    assert "camera: 1 wanted, 0 free of 0, which no machine offers (machines: pi_4, vm)" in found
    assert "the cluster has no autoscaler" in found


def test_a_resource_that_is_in_use_is_named_with_who_has_it() -> None:
    found = text([place(f"place-{i}", cpus=2) for i in range(2)], [PI, VM])
    assert "CPU: 4 wanted, 3 free of 5 on pi_4, vm" in found


def test_what_fits_in_all_but_in_no_machine_is_told_for_each_kind() -> None:
    found = text([place(cpus=3)], [PI, VM])
    assert "place-0: pi_4 lacks CPU (3 wanted, 1 free); vm lacks CPU (3 wanted, 2 free)" in found


def test_labels_that_do_not_match_are_told() -> None:
    found = text([place(resources={"vm": 1}, labels={"site": "north"})], [PI, VM])
    assert "vm lacks the label site=north" in found
    assert "pi_4 lacks vm (1 wanted, 0 free)" in found


def test_strictly_spread_places_need_as_many_machines() -> None:
    places = [place(f"place-{i}", cpus=1) for i in range(3)]
    assert "STRICT_SPREAD needs 3 machines and there are 2" in text(places, [PI, VM], strategy="STRICT_SPREAD")


def test_an_autoscaler_that_was_asked_is_told() -> None:
    assert "the autoscaler did not add enough machines" in text([place(cpus=9)], [PI, VM], autoscaled=True)


def test_rounding_is_no_shortage() -> None:
    assert short_of([place(f"place-{i}", cpus=1.00001) for i in range(3)], [PI, VM]) == []
    assert "machines: none" in text([place()], [])


DEVICES = {"pi": {"resources": {"pi_4": 1}}, "vm": {"resources": {"vm": 1}, "labels": {"site": "south"}}, "any": {}}


@pytest.mark.parametrize("num_places", [1, 2])
def test_parties_that_need_different_machines_get_different_places(num_places: int) -> None:
    topology = Topology.model_validate({"devices": DEVICES, "owners": {"pi": 1, "any": 1}, "nodes": ["vm"]})
    parties = [
        *(PartySpec(name=f"owner-{i}", role="owner", build=dict) for i in range(2)),
        PartySpec(name="node-1", role="node", build=dict),
        PartySpec(name="aggregator", role="aggregator", build=dict),
    ]
    layout = with_resources(lay_out(parties, num_places=num_places, cpus=num_places), topology, parties)
    places = {place.name: place for place in layout.places}
    of = {party: places[name] for party, name in layout.place_of.items()}
    assert of["owner-0"].resources == {"pi_4": 1}
    assert of["node-1"].resources == {"vm": 1}
    assert of["node-1"].labels == {"site": "south"}
    assert of["owner-1"].resources == of["aggregator"].resources == {}
    assert set(layout.place_of.values()) == set(places)
    assert sum(place.cpus for place in layout.places) == pytest.approx(num_places, abs=0.001)
