"""Guards on Ray: the bits and the ledgers of one process, also where the place of an owner is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from guarded import accounts, experiment_of, guarded, secret_in
from support import run_on, same, train

from raysplit.cluster.faults import Fault, FaultyCluster, end_process
from raysplit.training.loop import run

TRAINING: dict[str, Any] = {"rounds": 2, "batch_size": 16, "optimizer": {"lr": 0.1}}
Z = {"clip": 1, "noise": 0.5}


def privacy_of(folder: Path, ledger: str, **guards: Any) -> dict[str, Any]:
    return {"secret_file": secret_in(folder), "ledger": str(folder / ledger), **guards}


@pytest.mark.parametrize(
    ("algorithm", "guards"),
    [
        ({"name": "minibatch_sfl", "cut": 1}, {"z": Z, "labels": {"epsilon": 2}, "weights": {"clip": 1, "noise": 1}}),
        ({"name": "splitfed_v1", "cut": 1}, {"z": Z, "project": 4}),
        ({"name": "mpsl", "cuts": [1, 2]}, {"z": Z, "g": "max_norm"}),
    ],
    ids=lambda value: value.get("name", ""),
)
def test_ray_and_local_give_the_same_bits_and_ledgers(
    algorithm: dict[str, Any], guards: dict[str, Any], make_cluster: Any, tmp_path: Path
) -> None:
    changes = {"algorithm": algorithm, "training": TRAINING}
    here = guarded(**changes, privacy=privacy_of(tmp_path, "here", **guards))
    there_too = {**changes, "privacy": privacy_of(tmp_path, "there", **guards)}
    there = run_on(make_cluster(2, links=experiment_of(**there_too).link_rules()), **there_too)
    assert same(there, here)
    assert there.links == here.links
    written = [
        [(account.owner, account.charges, account.sent) for account in accounts(tmp_path / name)]
        for name in ("here", "there")
    ]
    assert written[0] == written[1]


def test_a_ledger_alone_changes_no_bit(make_cluster: Any) -> None:
    changes: dict[str, Any] = {"algorithm": {"name": "minibatch_sfl", "cut": 1}, "training": TRAINING}
    on = {**changes, "privacy": {"rehearsal": True}}
    watched = run_on(make_cluster(2, links=experiment_of(**on).link_rules()), **on)
    plain = train(**changes)
    assert same(watched, plain)
    assert watched.links == plain.links


@pytest.mark.slow
def test_a_lost_owner_comes_back_with_its_secret_and_pays_nothing_twice(make_cluster: Any, tmp_path: Path) -> None:
    guards: dict[str, Any] = {"z": Z, "labels": {"epsilon": 2}}
    changes = {"algorithm": {"name": "splitnn", "cut": 1}, "training": TRAINING}
    here = guarded(**changes, privacy=privacy_of(tmp_path, "here", **guards))
    experiment = experiment_of(**changes, privacy=privacy_of(tmp_path, "there", **guards))
    cluster = make_cluster(sharing="alone", links=experiment.link_rules())
    faults = [Fault(party="owner-1", verb="run_round", at_call=2, turns=4)]
    there = asyncio.run(run(experiment, FaultyCluster(cluster, faults, death=end_process)))
    assert same(there, here)
    totals = [[a.total(1e-5).epsilon for a in accounts(tmp_path / name)] for name in ("here", "there")]
    assert totals[0] == totals[1]
