"""Whoever dies, and whenever: the weights are those of a run that was never disturbed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from disturbed import EVERYTHING, FORGOTTEN, KEPT, changes, deaths, equal
from support import run_on, train

from raysplit.cluster.faults import Fault, FaultyCluster
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.runs.result import Result


def faulty(faults: Sequence[Fault], **more: Any) -> Result:
    cluster = FaultyCluster(LocalCluster(), faults)
    result = run_on(cluster, **more)
    assert cluster.num_healed >= 1
    return result


SAMPLE = [("fedavg", 1), ("splitnn", 0), ("splitfed_v1", 1), ("minibatch_sfl", 1), ("mpsl", 1), ("mtsl", 1)]
SAMPLE += [("mtl_split", 1), ("mas", 2), ("mas", 3), ("mas in turn", 0), ("hoa", 1)]
MATRIX = [(name, i) for name in EVERYTHING for i in range(len(deaths(name)))]


@pytest.mark.parametrize(("name", "who"), SAMPLE)
def test_a_death_leaves_no_trace(name: str, who: int) -> None:
    assert equal(faulty([deaths(name)[who]], **changes(name)), train(**changes(name)))


@pytest.mark.slow
@pytest.mark.parametrize("training", [KEPT, FORGOTTEN], ids=["kept", "forgotten"])
@pytest.mark.parametrize(("name", "who"), MATRIX)
def test_no_death_leaves_a_trace(name: str, who: int, training: dict[str, Any]) -> None:
    assert equal(faulty([deaths(name)[who]], **changes(name, training)), train(**changes(name, training)))


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERYTHING)
def test_all_of_them_die_one_after_the_other(name: str) -> None:
    assert equal(faulty(deaths(name), **changes(name)), train(**changes(name)))


@pytest.mark.parametrize("at_call", [1, 2, 3, 9, 30, 31])
def test_a_death_at_any_call(at_call: int) -> None:
    """Opening the round, amid the steps, at its end, while the round end is kept."""
    found = faulty([Fault(party="server", at_call=at_call)], **changes("minibatch_sfl"))
    assert equal(found, train(**changes("minibatch_sfl")))
