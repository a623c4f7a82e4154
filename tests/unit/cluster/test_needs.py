"""Owners that ask for a machine get a place of their own there."""

from __future__ import annotations

from raysplit.cluster.contract import PartySpec
from raysplit.cluster.layout import Needs, lay_out, with_needs


def test_a_party_with_needs_has_a_place_of_its_own_on_a_machine_with_its_label() -> None:
    parties = [PartySpec(name=f"owner-{i}", role="owner", build=object) for i in range(3)]
    plain = lay_out(parties, num_places=1, cpus=2.0)
    asked = with_needs(plain, {"owner-1": Needs(labels={"site": "a"}, resources={"clinic_a": 1}), "owner-2": Needs()})
    assert asked.place_of == {"owner-0": "place-0", "owner-1": "place-owner-1", "owner-2": "place-0"}
    shared, own = asked.places
    assert (own.name, own.labels, own.resources) == ("place-owner-1", {"site": "a"}, {"clinic_a": 1})
    assert not shared.labels
    assert shared.cpus == own.cpus == 0.5
    assert with_needs(plain, {"owner-0": Needs()}) is plain
