"""FedNova in processes: the bits of one, also when a process dies in the middle of a round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from disturbed import equal
from support import run_on, train

from raysplit.cluster.faults import Fault, FaultyCluster, end_process
from raysplit.cluster.on_ray.cluster import RayCluster

Make = Callable[..., RayCluster]

SECTIONS: dict[str, Any] = {
    "algorithm": {"name": "fednova"},
    "partition": {"name": "quantity", "num_owners": 4, "law": "linear"},
    "training": {"rounds": 2, "batch_size": 16, "optimizer": {"lr": 0.1, "momentum": 0.9}},
}


def test_processes_give_the_bits_of_one(make_cluster: Make) -> None:
    assert equal(run_on(make_cluster(2), **SECTIONS), train(**SECTIONS))


@pytest.mark.slow
def test_a_process_that_dies_leaves_no_trace(make_cluster: Make) -> None:
    fault = Fault(party="owner-3", verb="run_round", at_call=2, turns=4)
    cluster = FaultyCluster(make_cluster(2), [fault], death=end_process)
    assert equal(run_on(cluster, **SECTIONS), train(**SECTIONS))
    assert cluster.num_healed >= 1
