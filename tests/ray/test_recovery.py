"""Processes and machines that die under a run on Ray: the weights are those of an undisturbed run in one process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from support import run_on, same, train

from raysplit.cluster.faults import Fault, FaultyCluster, end_process, freeze_process
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


@pytest.mark.slow
def test_a_process_that_freezes_is_noticed_and_replaced(make_cluster: Make) -> None:
    cluster = FaultyCluster(make_cluster(3), [Fault(party="server", at_call=12)], death=freeze_process)
    found = run_on(cluster, **changes("minibatch_sfl", reliability={"place_timeout_s": 15}))
    assert equal(found, train(**changes("minibatch_sfl")))
    assert cluster.num_healed >= 1


@pytest.mark.slow
def test_a_machine_that_goes_leaves_no_trace(tmp_path: Path) -> None:
    """A cluster of two machines in a process of its own; the second goes in the middle of a round, a third comes."""
    script = tmp_path / "machines.py"
    script.write_text(MACHINES, encoding="utf-8")
    path = os.pathsep.join([*sys.path, str(Path(__file__).parents[1])])
    environment = {**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "equal" in done.stdout


MACHINES = """
import asyncio, logging
from functools import partial

import ray, torch
from ray.cluster_utils import Cluster
from support import run_on, same, settings, train

from raysplit.cluster.ray import RayCluster
from raysplit.cluster.topology import Layout, PlaceSpec

torch.set_num_threads(1)
machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": 100 * 2**20})
second = machines.add_node(num_cpus=2, resources={"far": 1}, object_store_memory=100 * 2**20)
ray.init(address=machines.address, log_to_driver=False)

def lay_out(parties):
    places = (PlaceSpec(name="near", cpus=0.5), PlaceSpec(name="far", cpus=0.5, resources={"far": 1}))
    far = ("server", "owner-1")
    return Layout(places=places, place_of={p.name: "far" if p.name in far else "near" for p in parties})

class Machines(RayCluster):
    gone = False

    async def traffic(self):  # asked before and after every round
        counts = await super().traffic()
        if not self.gone and sum(c.num_messages for c in counts) > 40:
            Machines.gone = True
            asyncio.get_running_loop().call_later(0.02, self._lose)
        return counts

    def _lose(self):
        machines.remove_node(second, allow_graceful=False)
        machines.add_node(wait=False, num_cpus=2, resources={"far": 1}, object_store_memory=100 * 2**20)

training = {"rounds": 3, "batch_size": 16, "local_epochs": 4, "optimizer": {"lr": 0.1, "momentum": 0.9}}
more = {"algorithm": {"name": "minibatch_sfl", "cut": 1}, "training": training}
more["reliability"] = {"place_timeout_s": 20}
there = run_on(Machines(lay_out, placement_timeout_s=120), **more)
assert Machines.gone
assert same(there, train(**more))
print("equal")
ray.shutdown()
machines.shutdown()
"""
