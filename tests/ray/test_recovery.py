"""Processes and machines that die under a run on Ray: the weights are those of an undisturbed run in one process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disturbed import EVERYTHING, MULTI_TASK, changes, deaths
from mas_support import same_models
from support import run_on, train

from raysplit.cluster.faults import Fault, FaultyCluster, end_process, freeze_process
from raysplit.cluster.ray import RayCluster
from raysplit.train.run import RunResult

Make = Callable[..., RayCluster]

SAMPLE = [("fedavg", 0), ("minibatch_sfl", 1), ("mpsl", 2), ("mtl_split", 1), ("mas", 2)]
LEFT_OUT = {"splitfed_v1 on two servers", "minibatch_sfl on two servers", "mpsl with routes", "mas when ready"}
MATRIX = [(name, who) for name in EVERYTHING if name not in LEFT_OUT for who in range(len(deaths(name)))]


def killed(cluster: RayCluster, fault: Fault, **more: Any) -> RunResult:
    faulty = FaultyCluster(cluster, [fault], death=end_process)
    result = run_on(faulty, **more)
    assert faulty.num_healed >= 1
    return result


def assert_no_trace(name: str, who: int, cluster: RayCluster) -> None:
    there = killed(cluster, deaths(name)[who], **changes(name))
    here = train(**changes(name))
    assert same_models(there.states, here.states)
    assert [row["train_loss"] for row in there.rows] == [row["train_loss"] for row in here.rows]
    assert there.traffic == here.traffic


@pytest.mark.parametrize(("name", "who"), SAMPLE)
def test_a_process_that_dies_leaves_no_trace(name: str, who: int, make_cluster: Make) -> None:
    assert_no_trace(name, who, make_cluster(1 if name == "mas" else 2))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "who"), MATRIX)
def test_no_process_that_dies_leaves_a_trace(name: str, who: int, make_cluster: Make) -> None:
    """Methods with groups have room for copies of one place for each group, and no more."""
    assert_no_trace(name, who, make_cluster(1 if name in MULTI_TASK else 2))


@pytest.mark.slow
def test_a_process_that_freezes_is_noticed_and_replaced(make_cluster: Make) -> None:
    cluster = FaultyCluster(make_cluster(3), [Fault(party="server", at_call=12)], death=freeze_process)
    found = run_on(cluster, **changes("minibatch_sfl", reliability={"place_timeout_s": 15}))
    assert same_models(found.states, train(**changes("minibatch_sfl")).states)
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
