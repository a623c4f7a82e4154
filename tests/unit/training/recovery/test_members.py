"""Runs whose owners and compute nodes come and go: the weights are those of a run that had the same members."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from coming import ComingAndGoing, replayed
from disturbed import KEPT, Killed, Killer
from support import run_on, same, settings, train

from raysplit.algorithms.base import Algorithm
from raysplit.cluster.contract import Cluster, NoRoom, PartySpec, Role
from raysplit.cluster.faults import Fault, FaultyCluster
from raysplit.cluster.layout import lay_out_elastic
from raysplit.config.build import build
from raysplit.config.planned_cuts import with_planned_cuts
from raysplit.config.run import check_config
from raysplit.runs.folder import RunFolder
from raysplit.runs.result import Result
from raysplit.schedulers.cuts.profiles import Profile, UnitProfile
from raysplit.training.loop import run
from raysplit.training.recovery.checkpoint import Checkpoints

ELASTIC = {"wait_s": 0.3}
HISTORY = ({"owner-2"}, {"owner-2"}, (), {"owner-0"}, ())  # the start, then rounds 1 to 4
PRESENT = (("owner-0", "owner-1"), None, ("owner-1", "owner-2"), None)
TRAINING = {**KEPT, "rounds": 4}


def changes(name: str, **more: Any) -> dict[str, Any]:
    options = {"sync_every": 3} if name == "minibatch_sfl" else {}
    return {"algorithm": {"name": name, **options}, "training": TRAINING, "cluster__elastic": ELASTIC, **more}


def with_members(monkeypatch: pytest.MonkeyPatch, present: Sequence[Sequence[str] | None], **more: Any) -> Result:
    """A run that has all its parties throughout, and draws from these owners round by round."""

    def available(self: Algorithm, round: int) -> list[str]:
        return list(present[round] or self.setting.owners)

    with monkeypatch.context() as patch:
        patch.setattr("raysplit.algorithms.fedavg.fedavg.FedAvg.available", available)
        patch.setattr("raysplit.algorithms.splitfed.SplitFedV1.available", available, raising=False)
        return train(**{**more, "cluster__elastic": None})


@pytest.mark.parametrize("name", ["fedavg", "splitfed_v1", "splitfed_v2", "minibatch_sfl"])
def test_who_comes_and_goes_leaves_no_other_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Momentum is kept between rounds, so who comes back must have its own again."""
    there = run_on(ComingAndGoing(*HISTORY), **changes(name))
    assert same(there, with_members(monkeypatch, PRESENT, **changes(name)))
    assert [(row["came"], row["left"], row["num_members"]) for row in there.rows] == [
        (["owner-0", "owner-1"], [], 2),
        (["owner-2"], [], 3),
        ([], ["owner-0"], 2),
        (["owner-0"], [], 3),
    ]
    assert [row["num_owners"] for row in there.rows] == [2, 3, 2, 3]


def test_the_same_history_gives_the_same_weights() -> None:
    """As the rows of a run tell it."""
    there = run_on(ComingAndGoing(*HISTORY), **changes("minibatch_sfl"))
    owners = [f"owner-{i}" for i in range(3)]
    assert same(there, run_on(replayed(there.rows, owners), **changes("minibatch_sfl")))
    assert not same(there, run_on(ComingAndGoing(()), **changes("minibatch_sfl")))


def test_an_owner_that_is_lost_leaves_by_the_failure_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lost in round 2, which is repeated without it; it is back in round 3 with what it had before round 2."""
    lost = Fault(party="owner-1", verb="run_round", at_call=2, turns=3)
    cluster = FaultyCluster(ComingAndGoing(()), [lost])
    there = run_on(cluster, **changes("fedavg", reliability={"on_lost_place": "drop"}))
    present = (None, ("owner-0", "owner-2"), None, None)
    assert same(there, with_members(monkeypatch, present, **changes("fedavg")))
    assert [row["num_owners"] for row in there.rows] == [3, 2, 3, 3]


def test_one_that_is_wanted_back_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """`restart`: the round is repeated with it, as it comes at the third call of the roll after its loss."""
    away = {"owner-1"}
    cluster = FaultyCluster(
        ComingAndGoing((), (), (), away, away, ()), [Fault(party="owner-1", verb="run_round", at_call=2, turns=3)]
    )
    there = run_on(cluster, **changes("fedavg", cluster__placement_timeout_s=60))
    assert same(there, train(**changes("fedavg")))


def test_nobody_but_owners_can_be_done_without(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(NoRoom, match="aggregator has no place; offer Ray more machines"):
        run_on(ComingAndGoing({"aggregator"}), **changes("fedavg"))
    assert "waiting before round 1: aggregator has no place" in caplog.text


def test_a_round_waits_for_its_smallest_number_of_owners() -> None:
    elastic = {"min_owners": 2, "wait_s": 60}
    away = {"owner-1", "owner-2"}
    result = run_on(ComingAndGoing(away, away, ()), **changes("fedavg", cluster__elastic=elastic))
    assert [row["num_owners"] for row in result.rows] == [3, 3, 3, 3]


def test_resumed_it_goes_on_with_who_is_there_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut short after round 2; owner-0 is absent at the next start and comes back in round 4."""
    config = check_config(settings(**changes("fedavg")))
    checkpoints = Checkpoints(tmp_path / "kept")
    first = run(
        build(config),
        ComingAndGoing(*HISTORY),
        folder=RunFolder(tmp_path / "run"),
        checkpoints=checkpoints,
        callbacks=[Killer(2)],
    )
    with pytest.raises(Killed):
        asyncio.run(first)
    start = checkpoints.newest(checkpoints.load(checkpoints.names()[0]).fingerprint, {})
    rest = ComingAndGoing({"owner-0"}, {"owner-0"}, ())
    resumed = asyncio.run(run(build(config), rest, start=start))
    assert same(resumed, with_members(monkeypatch, PRESENT, **changes("fedavg")))
    assert [row["left"] for row in resumed.rows] == [[], [], ["owner-0"], []]


def test_owners_live_everywhere_others_in_the_first_places_and_movable_nodes_alone() -> None:
    roles: list[tuple[str, Role]] = [(f"owner-{i}", "owner") for i in range(4)]
    roles += [("aggregator", "aggregator"), ("evaluator-0", "evaluator"), ("node-1", "node")]
    parties = [PartySpec(name=name, role=role, build=object) for name, role in roles]
    found = lay_out_elastic(parties, num_places=3, min_places=1, cpus_per_place=2, apart=["node-1"])
    assert found.place_of == {
        "node-1": "place-node-1",
        "owner-0": "place-0",
        "owner-1": "place-1",
        "owner-2": "place-2",
        "owner-3": "place-0",
        "evaluator-0": "place-0",
        "aggregator": "place-0",
    }
    assert [(place.name, place.cpus) for place in found.places] == [
        ("place-0", 2),
        ("place-1", 2),
        ("place-2", 2),
        ("place-node-1", 2),
    ]
    assert len(lay_out_elastic(parties, num_places=None, min_places=1, cpus_per_place=1).places) == 7
    with pytest.raises(ValueError, match="a run of 3 places cannot begin with 4"):
        lay_out_elastic(parties, num_places=3, min_places=4, cpus_per_place=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"algorithm": {"name": "mtsl"}}, "cluster.elastic is set, and mtsl does not use it: it needs all its owners"),
        ({"cluster__kind": "ray"}, "grows to cluster.places, which is auto"),
        ({"reliability": {"checkpoint_every": None}}, "reliability.checkpoint_every is null; set it to 1"),
    ],
)
def test_what_cannot_be_elastic_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_config(settings(**{**changes("fedavg"), **wrong}))


# -- parts that move -------------------------------------------------------------------------------------------------

WIDTHS = (16, 12, 10, 8, 5)


@pytest.fixture
def mpsl(tmp_path: Path) -> dict[str, Any]:
    """Equal units on equal machines; the owner keeps the first and the last of five, three nodes share the others."""
    sizes = zip((10, *WIDTHS), WIDTHS, strict=False)
    units = tuple(
        UnitProfile(
            name=f"unit{i}",
            forward_ms=1000.0,
            backward_ms=1000.0,
            update_ms=0.0,
            activation_bytes=8 * 16 * after,
            parameter_bytes=8 * (before + 1) * after,
        )
        for i, (before, after) in enumerate(sizes)
    )
    path = tmp_path / "toy.parquet"
    Profile(model="toy", device="toy", batch_size=16, units=units).to_parquet(path)
    return {
        "model": {"name": "mlp", "hidden": list(WIDTHS[:-1]), "dtype": "float64"},
        "algorithm": {"name": "mpsl", "cuts": "auto", "units": [1, 3]},
        "topology": {"pace": False, "devices": {"vm": {"profile": str(path)}}, "owners": "vm", "nodes": ["vm"] * 3},
        "training": {"rounds": 5, "batch_size": 16, "optimizer": {"lr": 0.1, "momentum": 0.9}},
        "cluster__elastic": ELASTIC,
    }


def moving(cluster: Cluster, changes: dict[str, Any], **more: Any) -> Result:
    config = with_planned_cuts(check_config(settings(**{**changes, **more})))
    return asyncio.run(run(build(config), cluster))


def plain(changes: dict[str, Any]) -> Result:
    """FedAvg, whose weights MP-SL has wherever it is cut."""
    kept = {key: changes[key] for key in ("model", "training")}
    return train(**kept, algorithm={"name": "fedavg"})


def test_parts_move_with_the_nodes_and_leave_no_trace(mpsl: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """One node of three at first, a second in round 2, the third in round 3, and in round 4 the first is gone."""
    two, three = {"node-2", "node-3"}, {"node-3"}
    cluster = ComingAndGoing(two, two, three, (), {"node-1"})
    with caplog.at_level(logging.INFO):
        there = moving(cluster, mpsl)
    assert same(there, plain(mpsl))
    routes = [
        dict(zip(row["nodes"], zip(row["cuts"], row["cuts"][1:], strict=False), strict=True)) for row in there.rows
    ]
    assert routes[0] == {"node-1": (1, 4)}
    assert routes[1] in ({"node-1": (1, 3), "node-2": (3, 4)}, {"node-2": (1, 2), "node-1": (2, 4)})
    assert {name: end - start for name, (start, end) in routes[2].items()} == {"node-1": 1, "node-2": 1, "node-3": 1}
    assert routes[3].keys() == {"node-2", "node-3"}
    assert routes[4] == routes[3]
    assert "compute nodes node-1, node-2 are there: move to cuts" in caplog.text
    assert "the plan in place cannot continue; move to" in caplog.text


def test_parts_stay_where_a_move_gains_too_little(mpsl: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    absent = {"node-2", "node-3"}
    with caplog.at_level(logging.INFO):
        there = moving(ComingAndGoing(absent, absent, ()), mpsl, cluster__elastic={"min_gain": 0.9})
    assert [row["nodes"] for row in there.rows] == [["node-1"]] * 5
    assert "node-1, node-2, node-3 are there: keep cuts [1, 4] on node-1" in caplog.text
    assert same(there, plain(mpsl))


def test_owners_that_come_after_a_move_have_the_new_parts(
    mpsl: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    absent = {"node-2", "node-3", "owner-1"}
    there = moving(ComingAndGoing(absent, absent, {"node-2", "owner-1"}, {"node-2"}), mpsl)
    present = (("owner-0", "owner-2"), ("owner-0", "owner-2"), None, None, None)
    kept = {key: mpsl[key] for key in ("model", "training")}
    assert same(there, with_members(monkeypatch, present, algorithm={"name": "fedavg"}, **kept))


def test_a_node_that_dies_in_a_round_takes_nothing_with_it(mpsl: dict[str, Any]) -> None:
    """It is waited for; then its part is made of the last round end on the others, and the round repeated."""
    died = Fault(party="node-2", verb="forward", at_call=30, turns=1)
    away = {"node-2"}
    cluster = FaultyCluster(ComingAndGoing((), (), (), away), [died])
    there = moving(cluster, mpsl, cluster__placement_timeout_s=0.1)
    assert same(there, plain(mpsl))
    assert "node-2" in there.rows[0]["nodes"]
    assert "node-2" not in there.rows[-1]["nodes"]


def test_without_any_node_it_waits(mpsl: dict[str, Any]) -> None:
    with pytest.raises(NoRoom, match="there is no compute node"):
        moving(ComingAndGoing({"node-1", "node-2", "node-3"}), mpsl)


def test_owners_that_keep_momentum_cannot_have_parts_that_move(mpsl: dict[str, Any]) -> None:
    keeping = {**mpsl["training"], "owner_optimizer_state": "keep"}
    with pytest.raises(ValueError, match="on_offer lets parts move between nodes, but owners keep momentum"):
        moving(ComingAndGoing(()), mpsl, training=keeping)
