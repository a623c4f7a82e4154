"""State at the owners of a plug-in, in processes: the same bits as in one, also when a process dies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disturbed import equal
from support import run_on, train

from raysplit.cluster.faults import Fault, FaultyCluster, end_process
from raysplit.cluster.on_ray.cluster import RayCluster

Make = Callable[..., RayCluster]

SECTIONS: dict[str, Any] = {
    "algorithm": {"name": "scaffold:Scaffold"},
    "training": {"rounds": 3, "batch_size": 16, "cohort_size": 2, "optimizer": {"lr": 0.1}},
}


@pytest.fixture(autouse=True)
def _in_the_folder_of_the_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))


def test_processes_give_the_bits_of_one(make_cluster: Make) -> None:
    assert equal(run_on(make_cluster(2), **SECTIONS), train(**SECTIONS))


def test_a_process_that_dies_takes_no_control_variate_along(make_cluster: Make) -> None:
    fault = Fault(party="aggregator", verb="submit_both", at_call=4)
    cluster = FaultyCluster(make_cluster(2), [fault], death=end_process)
    assert equal(run_on(cluster, **SECTIONS), train(**SECTIONS))
    assert cluster.num_healed >= 1
