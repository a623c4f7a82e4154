"""Whoever lies, and about what: the liar is named, nobody honest is dropped for it, and no bad weight is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from disturbed import ALGORITHMS, changes
from hostile import LIES, SENDS, HostileCluster, Plan
from support import run_on

from raysplit.actors.records import BadValue
from raysplit.cluster.contract import original
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.run import check_config
from raysplit.runs.result import Result

ONE_ROUND_MORE = {"rounds": 2, "batch_size": 16, "optimizer": {"lr": 0.1}}
DROP = {"on_bad_update": "drop", "exclude_after": 1, "quorum": 0.5}
CODED_METHODS = ("splitfed_v1", "minibatch_sfl", "mpsl")
CODED = {"smashed": "int8", "gradients": "int8", "labels": "narrow"}

MATRIX = [
    (name, party, content, way)
    for name, parties in SENDS.items()
    for party, contents in parties.items()
    for content in contents
    for way in LIES[content]
    if (name.split()[0], party, way) != ("mpsl", "owner-1", "too few rows")  # a node does not know an owner's batches
]


def lied_to(name: str, party: str, content: str, way: str, **more: Any) -> tuple[Result | BadValue, Plan]:
    """Run with a liar, under rules that drop owners; return the result or the error, and what was told."""
    at = 2 if content not in ("report", "state") and name in ALGORITHMS else 1  # later groups have other parties
    plan = Plan(party, content, LIES[content][way], at=at)
    training = ONE_ROUND_MORE if name in ALGORITHMS else changes(name)["training"]
    links = check_config({"links": more.get("links", {}), **_any_data()}).links.link_rules()
    cluster = HostileCluster(LocalCluster(links=links), plan)
    try:
        return run_on(cluster, **changes(name, training, reliability=DROP) | more), plan
    except BadValue as refused:
        return refused, plan


def _any_data() -> dict[str, Any]:
    return {"model": {"name": "mlp"}, "data": {"name": "random"}, "algorithm": {"name": "fedavg"}}


def require_named(name: str, party: str, content: str, way: str, caplog: Any, **more: Any) -> None:
    found, plan = lied_to(name, party, content, way, **more)
    assert plan.told, f"{party} of {name} never sent {content}"
    if isinstance(found, BadValue):
        assert original(found.sender) == original(party), str(found)
        assert str(found).isprintable()
    else:
        assert party.startswith("owner"), "a run goes on without an owner alone"
        assert found.rows[-1]["num_owners"] < 3 or found.rows[0]["num_owners"] < 3
        assert all(torch.isfinite(t).all() for state in found.states.values() for t in state.values())
    for honest in {"owner-0", "owner-1", "owner-2"} - {party}:
        assert f"without {honest}" not in caplog.text


SAMPLE = [
    ("splitnn", "server", "gradients", "NaN"),
    ("splitnn", "owner-1", "labels", "of no class"),
    ("splitfed_v1", "server", "gradients", "another shape"),
    ("splitfed_v1", "server", "loss", "negative"),
    ("splitfed_v1", "owner-1", "smashed", "too few rows"),
    ("splitfed_v2", "server", "gradients", "double or single"),
    ("splitfed_v2", "server", "loss", "text"),
    ("minibatch_sfl", "server", "weights", "NaN"),
    ("minibatch_sfl", "owner-1", "smashed", "infinite"),
    ("mpsl", "node-1", "smashed", "None"),
    ("mpsl", "owner-1", "gradients", "a list"),
    ("mpsl with routes", "node-1", "weights", "a missing name"),
    ("mpsl with routes", "node-1", "weights", "nothing"),
    ("mtsl", "server", "gradients", "all NaN, once in memory"),
    ("mtl_split on two nodes", "heads-1", "gradients", "transposed"),
    ("fedavg", "aggregator", "weights", "NaN"),
    ("fedavg", "owner-1", "weights", "another name"),
    ("fedavg", "owner-1", "report", "of another owner"),
    ("fedavg", "aggregator", "state", "NaN"),
    ("fedem", "aggregator", "weights", "another shape"),
    ("mas", "owner-1", "weights", "infinite"),
]


@pytest.mark.parametrize(("name", "party", "content", "way"), SAMPLE)
def test_a_lie_is_named(name: str, party: str, content: str, way: str, caplog: Any) -> None:
    """A server's gradient of NaN was told as the owner's loss, and honest owners were dropped one after the other;
    a node whose weights were NaN ended in exit 0, an accuracy of 0.1 and a model of NaN."""
    require_named(name, party, content, way, caplog)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "party", "content", "way"), MATRIX)
def test_every_lie_is_named(name: str, party: str, content: str, way: str, caplog: Any) -> None:
    require_named(name, party, content, way, caplog)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "party", "content", "way"),
    [
        row
        for row in MATRIX
        if row[0] in ("splitfed_v1", "minibatch_sfl", "mpsl") and row[2] in ("smashed", "gradients")
    ],
)
def test_every_lie_is_named_behind_a_codec(name: str, party: str, content: str, way: str, caplog: Any) -> None:
    require_named(name, party, content, way, caplog, links=CODED)
