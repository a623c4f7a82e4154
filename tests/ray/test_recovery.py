"""Processes and machines that die under a run on Ray: the weights are those of an undisturbed run in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from disturbed import EVERYTHING, MULTI_TASK, changes, deaths
from mas_support import same_models
from support import run_on, train

from raysplit.cluster.faults import Fault, FaultyCluster, end_process, freeze_process
from raysplit.cluster.on_ray.cluster import RayCluster
from raysplit.runs.result import Result

Make = Callable[..., RayCluster]

SAMPLE = [("fedavg", 0), ("minibatch_sfl", 1), ("mpsl", 2), ("mtl_split", 1), ("mas", 2)]
LEFT_OUT = {"splitfed_v1 on two servers", "minibatch_sfl on two servers", "mpsl with routes", "mas when ready"}
MATRIX = [(name, who) for name in EVERYTHING if name not in LEFT_OUT for who in range(len(deaths(name)))]


def killed(cluster: RayCluster, fault: Fault, **more: Any) -> Result:
    faulty = FaultyCluster(cluster, [fault], death=end_process)
    result = run_on(faulty, **more)
    assert faulty.num_healed >= 1
    return result


def assert_no_trace(name: str, who: int, cluster: RayCluster) -> None:
    there = killed(cluster, deaths(name)[who], **changes(name))
    here = train(**changes(name))
    assert same_models(there.states, here.states)
    assert [row["train_loss"] for row in there.rows] == [row["train_loss"] for row in here.rows]
    assert there.links == here.links


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
