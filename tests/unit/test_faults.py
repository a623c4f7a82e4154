"""Whoever dies, and whenever: the weights are those of a run that was never disturbed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from disturbed import ALGORITHMS, FORGOTTEN, KEPT, NODES, WITHOUT_AGGREGATOR, WITHOUT_NODE, changes, equal
from support import run_on, train

from raysplit.cluster.faults import Fault, FaultyCluster
from raysplit.cluster.local import LocalCluster
from raysplit.train.run import RunResult


def faulty(faults: Sequence[Fault], **more: Any) -> RunResult:
    return run_on(FaultyCluster(LocalCluster(), faults), **more)


def deaths(name: str) -> list[Fault]:
    """An owner in the midst of a round, a node, the aggregator: each where the algorithm has one."""
    found = [Fault(party="owner-0", verb="run_round", at_call=2, turns=4)]
    if name not in WITHOUT_NODE:
        found += [Fault(party=NODES.get(name, "server"), at_call=12)]
    if name not in WITHOUT_AGGREGATOR:
        found += [Fault(party="aggregator", at_call=6)]
    return found


SAMPLE = [("fedavg", 1), ("splitnn", 0), ("splitfed_v1", 1), ("minibatch_sfl", 1), ("mpsl", 1), ("mtsl", 1)]
MATRIX = [(name, i) for name in ALGORITHMS for i in range(len(deaths(name)))]


@pytest.mark.parametrize(("name", "who"), SAMPLE)
def test_a_death_leaves_no_trace(name: str, who: int) -> None:
    assert equal(faulty([deaths(name)[who]], **changes(name)), train(**changes(name)))


@pytest.mark.slow
@pytest.mark.parametrize("training", [KEPT, FORGOTTEN], ids=["kept", "forgotten"])
@pytest.mark.parametrize(("name", "who"), MATRIX)
def test_no_death_leaves_a_trace(name: str, who: int, training: dict[str, Any]) -> None:
    assert equal(faulty([deaths(name)[who]], **changes(name, training)), train(**changes(name, training)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ALGORITHMS)
def test_all_of_them_die_one_after_the_other(name: str) -> None:
    faults = [Fault(**{**fault.__dict__, "life": life}) for life, fault in enumerate(deaths(name))]
    assert equal(faulty(faults, **changes(name)), train(**changes(name)))


@pytest.mark.parametrize("at_call", [1, 2, 3, 9, 30, 31])
def test_a_death_at_any_call(at_call: int) -> None:
    """Opening the round, amid the steps, at its end, while the round end is kept."""
    found = faulty([Fault(party="server", at_call=at_call)], **changes("minibatch_sfl"))
    assert equal(found, train(**changes("minibatch_sfl")))
