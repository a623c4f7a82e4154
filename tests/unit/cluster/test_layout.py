"""Parties whose work is known are spread so that every process has as much of it as another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import toy_profile

from raysplit.cluster.contract import PartySpec
from raysplit.cluster.layout import lay_out
from raysplit.config.build import build_dry
from raysplit.config.run import RunConfig, check_config
from raysplit.prediction.machines import expected_work


@pytest.fixture
def profile(tmp_path: Path) -> str:
    return toy_profile(tmp_path, batch_size=16, activations=[1000] * 4, parameters=[1000] * 4)


def config(profile: str, algorithm: dict[str, Any], **topology: Any) -> RunConfig:
    return check_config(
        {
            "partition": {"name": "iid", "num_owners": 3},
            "algorithm": algorithm,
            "training": {"batch_size": 32},
            "topology": {
                "devices": {"host": {"profile": profile}},
                "owners": "host",
                "nodes": ["host", "host"],
                "samples_per_owner": 64,
                "pace": False,
                **topology,
            },
        }
    )


def work_of(checked: RunConfig) -> dict[str, float] | None:
    assert checked.topology is not None
    return expected_work(build_dry(checked).begin().parties(), checked.topology, checked.training.batch_size)


def test_work_counts_a_batch_of_every_owner(profile: str) -> None:
    """Batches are twice the profile's, updates take as long; a node has the batches of all three owners."""
    assert work_of(config(profile, {"name": "mpsl", "cuts": [1, 2, 3]})) == {
        **{f"owner-{i}": pytest.approx(2 * 3 + 0.5 + 2 * 2 + 1) for i in range(3)},
        "node-1": pytest.approx(3 * (2 * 7 + 0.25)),
        "node-2": pytest.approx(3 * (2 * 3 + 0.125)),
    }


def test_work_of_routes_counts_who_comes_by(profile: str) -> None:
    routes = {"owner-1": {"cuts": [1, 3], "nodes": ["node-2"]}}
    found = work_of(config(profile, {"name": "mpsl", "cuts": [1, 2, 3], "owner_routes": routes}))
    assert found is not None
    assert found["node-1"] == pytest.approx(2 * (2 * 7 + 0.25))
    assert found["node-2"] == pytest.approx(2 * (2 * 3 + 0.125) + (2 * 10 + 0.375))


def test_a_paced_run_and_devices_without_a_profile_tell_nothing(profile: str) -> None:
    assert work_of(config(profile, {"name": "mpsl", "cuts": [1, 2, 3]}, pace=True)) is None
    devices = {"host": {"profile": profile}, "other": {"times": "d1"}}
    assert work_of(config(profile, {"name": "mpsl", "cuts": [1, 2, 3]}, devices=devices, owners="other")) is None


def test_places_get_like_work() -> None:
    """Nodes of 9, 7 and 6 and four owners of 2: two places of 15; dealt out in turn, they make 10 and 20."""
    work = {"node-1": 7.0, "node-2": 6.0, "node-3": 9.0} | {f"owner-{i}": 2.0 for i in range(4)}
    roles: dict[str, Any] = {name: name.split("-")[0] for name in work} | {"aggregator": "aggregator"}
    parties = [PartySpec(name=name, role=role, build=dict) for name, role in roles.items()]

    def loads(**options: Any) -> list[float]:
        place_of = lay_out(parties, num_places=2, cpus=2, **options).place_of
        assert set(place_of) == set(roles)
        load = dict.fromkeys(place_of.values(), 0.0)
        for party, seconds in work.items():
            load[place_of[party]] += seconds
        return sorted(load.values())

    assert loads() == [10, 20]
    assert loads(work=work) == [15, 15]
