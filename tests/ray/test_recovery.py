"""Processes and machines that die under a run on Ray: the weights are those of an undisturbed run in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from support import run_on, same, train

from raysplit.cluster.faults import Fault, FaultyCluster, end_process
from raysplit.cluster.ray import RayCluster
from raysplit.train.run import RunResult

Make = Callable[..., RayCluster]

TRAINING = {
    "rounds": 3,
    "batch_size": 16,
    "owner_optimizer_state": "keep",
    "optimizer": {"lr": 0.1, "momentum": 0.9},
}
MODEL = {"name": "mlp", "hidden": [16, 12, 8], "dtype": "float64"}
OPTIONS: dict[str, dict[str, Any]] = {
    "mpsl": {"cuts": [1, 2]},
    "mtsl": {"learning_rates": {"every": 4}},
    "minibatch_sfl": {"sync_every": 3},
}
OWNER = Fault(party="owner-0", verb="run_round", at_call=2, turns=3)
AGGREGATOR = Fault(party="aggregator", at_call=6)


def node(name: str) -> Fault:
    return Fault(party="node-1" if name == "mpsl" else "server", at_call=12)


def changes(name: str, **more: Any) -> dict[str, Any]:
    return {"algorithm": {"name": name, **OPTIONS.get(name, {})}, "training": TRAINING, "model": MODEL, **more}


def killed(cluster: RayCluster, faults: Sequence[Fault], **more: Any) -> RunResult:
    return run_on(FaultyCluster(cluster, faults, death=end_process), **more)


def equal(a: RunResult, b: RunResult) -> bool:
    weights = a.states.keys() == b.states.keys() and all(same(a.states[k], b.states[k]) for k in a.states)
    return weights and [row["train_loss"] for row in a.rows] == [row["train_loss"] for row in b.rows]


SAMPLE = [("fedavg", OWNER), ("minibatch_sfl", node("minibatch_sfl")), ("mpsl", AGGREGATOR)]
MATRIX = [
    (name, fault)
    for name in ("local", "fedavg", "splitnn", "splitfed_v1", "splitfed_v2", "minibatch_sfl", "mpsl", "mtsl")
    for fault in (OWNER, node(name), AGGREGATOR)
    if not (fault.party == "server" and name in ("local", "fedavg"))
    and not (fault.party == "aggregator" and name in ("local", "splitnn", "mtsl"))
]


@pytest.mark.parametrize(("name", "fault"), SAMPLE, ids=[name for name, _ in SAMPLE])
def test_a_process_that_dies_leaves_no_trace(name: str, fault: Fault, make_cluster: Make) -> None:
    there = killed(make_cluster(2), [fault], **changes(name))
    here = train(**changes(name))
    assert equal(there, here)
    assert there.traffic == here.traffic


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fault"), MATRIX, ids=[f"{name}-{fault.party}" for name, fault in MATRIX])
def test_no_process_that_dies_leaves_a_trace(name: str, fault: Fault, make_cluster: Make) -> None:
    assert equal(killed(make_cluster(3), [fault], **changes(name)), train(**changes(name)))
