"""Whoever lies, and about what: the liar is named, nobody honest is dropped for it, and no bad weight is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from disturbed import ALGORITHMS, changes
from hostile import SENDS, HostileCluster, Plan
from lies import LIES, OF_MESSAGES, Lie, Replay
from support import run_on

from raysplit.actors.records import BadValue, StaleCall
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
    return told_of(name, Plan(party, content, LIES[content][way], at=at), **more)


def told_of(name: str, plan: Plan, **more: Any) -> tuple[Result | BadValue, Plan]:
    """Run with a liar under rules that drop owners."""
    usual = ONE_ROUND_MORE if name in ALGORITHMS else changes(name)["training"]
    training = more.pop("training", usual)
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
    ("mpsl with routes", "owner-1", "weights", "nothing"),  # in the place of what node-1 sends for it
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


BEHIND_A_CODEC = [
    *((*row, LIES[row[2]][row[3]]) for row in MATRIX if row[0] in CODED_METHODS and row[2] in ("smashed", "gradients")),
    *(
        (name, party, content, way, lie)
        for name in CODED_METHODS
        for party, content in (("owner-1", "smashed"), ("node-1" if name == "mpsl" else "server", "gradients"))
        for way, lie in OF_MESSAGES.items()
    ),
]


def require_named_behind_a_codec(name: str, party: str, content: str, lie: Lie) -> None:
    found, plan = told_of(name, Plan(party, content, lie, at=2), links=CODED)
    assert plan.told
    if isinstance(found, BadValue):
        assert (found.sender, str(found).isprintable()) == (party, True)
    else:
        assert party == "owner-1"
        assert [row["num_owners"] for row in found.rows] == [2, 2]
        assert all(torch.isfinite(t).all() for state in found.states.values() for t in state.values())


@pytest.mark.parametrize(
    ("name", "party", "content", "way", "lie"),
    [
        row
        for row in BEHIND_A_CODEC
        if row[0] == "splitfed_v1" and row[3] in ("NaN", "another shape", "text", *OF_MESSAGES)
    ],
)
def test_a_lie_is_named_behind_a_codec(name: str, party: str, content: str, way: str, lie: Lie) -> None:
    """A message that cannot be decoded, or that announces gigabytes, is told of its sender as any other."""
    require_named_behind_a_codec(name, party, content, lie)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "party", "content", "way", "lie"), BEHIND_A_CODEC)
def test_every_lie_is_named_behind_a_codec(name: str, party: str, content: str, way: str, lie: Lie) -> None:
    require_named_behind_a_codec(name, party, content, lie)


# -- whose a call is, and when ---------------------------------------------------------------------------------------

CALLERS = ("splitfed_v1", "splitfed_v2", "minibatch_sfl", "mpsl", "mtsl", "fedavg", "mas")
CALLS = [
    (name, content, way)
    for name in CALLERS
    for content in ("=step_id", "=context", "=owner")
    for way in LIES[content]
    if (content == "=step_id") <= (name not in ("fedavg", "mas")) and (content == "=step_id" or name != "mtsl")
]


def require_caller_named(name: str, content: str, way: str) -> None:
    """Run with an owner whose calls say that they are of another owner, round, attempt or step."""
    at = 3 if content == "=step_id" and name != "mtsl" else 1
    plan = Plan("owner-1", content, LIES[content][way], at=at)
    try:
        found, _ = told_of(name, plan)
        told = {row["num_owners"] for row in found.rows} if isinstance(found, Result) else found
    except StaleCall as late:  # an owner that is late may be honest: the run ends, and says where
        told = (way, *late.__notes__)
    assert plan.told
    assert told == {1 if name == "mas" else 2} or (way == "of the round before" and "at owner-1" in str(told))


@pytest.mark.parametrize(
    ("name", "content", "way"), [row for i, row in enumerate(CALLS) if i % 5 == 0 or row[0] == "splitfed_v1"]
)
def test_a_call_in_another_name_or_of_another_step_is_the_caller_s(name: str, content: str, way: str) -> None:
    """A call for step 1,000,000 waited for ever; the same batch could be sent twice, and counted twice; None for a
    step ended the run with an AttributeError at the server."""
    require_caller_named(name, content, way)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "content", "way"), CALLS)
def test_every_call_in_another_name_is_the_caller_s(name: str, content: str, way: str) -> None:
    require_caller_named(name, content, way)


REPLAYS = [
    ("splitfed_v1", "server", "gradients"),
    ("splitfed_v2", "owner-1", "smashed"),
    ("minibatch_sfl", "server", "gradients"),
    ("fedavg", "owner-1", "weights"),
    ("fedavg", "aggregator", "weights"),
]


@pytest.mark.parametrize(("name", "party", "content"), REPLAYS)
def test_what_was_sent_before_looks_like_any_other_value(name: str, party: str, content: str) -> None:
    """docs/trust.md says that a value of an earlier step is not noticed: nobody is blamed, and no bad weight comes."""
    batches_of_one_size = {"rounds": 2, "batch_size": 8, "optimizer": {"lr": 0.1}, "last_batch": "drop"}
    found, plan = told_of(name, Plan(party, content, Replay()), training=batches_of_one_size)
    assert plan.told > 1
    assert isinstance(found, Result)
    assert [row["num_owners"] for row in found.rows] == [3, 3]
    assert all(torch.isfinite(t).all() for state in found.states.values() for t in state.values())
