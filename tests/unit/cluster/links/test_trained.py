"""Training over coded links: lossless codecs change nothing, and what codecs keep survives a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from disturbed import Killed, Killer, changes, deaths, equal
from support import run_on, same, settings, train

from raysplit.api import resume, train_config
from raysplit.cluster.faults import FaultyCluster
from raysplit.cluster.links.coding_link import CodingLink
from raysplit.cluster.links.rules import LinkRules
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.runs.folder import read_traffic
from raysplit.runs.result import Result
from raysplit.training.preflight import expected_needs
from raysplit.training.recovery import recovery
from raysplit.training.recovery.checkpoint import Checkpoint

LOSSLESS: dict[str, Any] = {"smashed": ["bitmap", "zstd"], "gradients": "zstd", "weights": "zstd", "labels": "narrow"}
WIDE: dict[str, Any] = {"name": "mlp", "hidden": [128, 64], "dtype": "float64"}
ALL = [f"owner-{i}" for i in range(3)]
SPARSE_UP = [{"from": "owner-*", "kind": "weights", "codec": {"codec": "top_k", "ratio": 0.1}}]


def traffic(result: Result, source: str, destination: str) -> dict[str, tuple[int, int]]:
    (record,) = [t for t in result.links if (t.source, t.destination) == (source, destination)]
    return {kind: (num_bytes, raw_bytes) for kind, num_bytes, raw_bytes in record.kinds}


@pytest.mark.parametrize("name", ["splitfed_v1", "mpsl", "minibatch_sfl", "mtsl", "mtl_split on two nodes", "fedem"])
def test_lossless_codecs_change_no_bit(name: str) -> None:
    plain, coded = train(**changes(name)), train(**changes(name, links=LOSSLESS))
    assert plain.states.keys() == coded.states.keys()
    assert all(same(plain.states[label], coded.states[label]) for label in plain.states)
    assert [row["test_loss"] for row in plain.rows] == [row["test_loss"] for row in coded.rows]
    assert sum(t.num_bytes for t in coded.links) < sum(t.num_bytes for t in plain.links)
    assert sum(t.raw_bytes for t in coded.links) == sum(t.num_bytes for t in plain.links)


def test_methods_that_train_the_whole_model_still_do_with_lossless_codecs() -> None:
    whole = train(**changes("splitfed_v1", algorithm={"name": "fedavg"}, links={"weights": "zstd"}))
    assert same(train(**changes("splitfed_v1", links=LOSSLESS)), whole)
    assert same(train(**changes("splitfed_v1", algorithm={"name": "mpsl", "cuts": [1, 2]}, links=LOSSLESS)), whole)


ODD: list[dict[str, Any]] = [
    {"smashed": "int4", "gradients": {"codec": "int4", "rounding": "stochastic"}},
    {"smashed": "rand_top_k"},
    {"smashed": ["delta", "int4"], "gradients": "int8"},
    {"smashed": {"codec": "skip", "similarity": 0.9}},
    {"smashed": {"codec": "product_quantization", "sub": 2, "words": 4}},
    {"smashed": {"codec": "int2", "bits": "adaptive"}, "gradients": "int8"},
]


@pytest.mark.parametrize("links", ODD, ids=str)
def test_methods_that_are_equal_stay_equal(links: dict[str, Any]) -> None:
    """Their draws are keyed by owner, round and step, not by who asks first."""
    one = {"links": links, "partition__num_owners": 1}
    names = ("minibatch_sfl", "splitfed_v1", "splitnn")
    first, *others = [train(algorithm={"name": name, "cut": 1}, **one) for name in names]
    assert all(same(first, other) for other in others)


@pytest.mark.parametrize(
    "sections",
    [
        {"algorithm": {"name": "fedavg"}, "links": {"rules": SPARSE_UP, "weights": "int8"}, "model": WIDE},
        {"algorithm": {"name": "fedavg"}, "links": {"weights": {"codec": "int4", "feedback": True}}, "model": WIDE},
        *[{"algorithm": {"name": "splitfed_v2", "cut": 1}, "links": links} for links in ODD[:3]],
    ],
    ids=lambda s: str(s["links"])[:40],
)
def test_a_killed_run_ends_with_the_bits_of_an_undisturbed_one(sections: dict[str, Any], tmp_path: Path) -> None:
    """What codecs keep is in the checkpoints: without it, the next difference would lack what was left out."""
    config = check_config(settings(**sections, training__rounds=4))
    whole = train_config(config, folder=tmp_path / "whole")
    with pytest.raises(Killed):
        train_config(config, folder=tmp_path / "cut", callbacks=[Killer(2)])
    again = resume(tmp_path / "cut")
    assert same(whole, again)
    assert whole.links == again.links


@pytest.mark.parametrize(
    ("name", "links"),
    [
        ("fedavg", {"rules": SPARSE_UP, "weights": "int8"}),
        ("splitfed_v2", {"smashed": ["delta", "int4"], "gradients": {"codec": "int8", "rounding": "stochastic"}}),
        ("minibatch_sfl", {"smashed": "rand_top_k", "weights": {"codec": "int4"}}),
    ],
)
def test_losses_leave_no_trace(name: str, links: dict[str, Any]) -> None:
    """An owner, a server and an aggregator die in the midst of rounds; what codecs keep goes back with the weights."""
    rules = check_config(settings(links=links)).links.link_rules(seed=3, num_classes=5)
    sections = changes(name, links=links)
    disturbed = run_on(FaultyCluster(LocalCluster(links=rules), deaths(name)), **sections)
    assert equal(disturbed, run_on(LocalCluster(links=rules), **sections))


@pytest.mark.parametrize(
    ("sections", "with_parts"),
    [
        ({"algorithm": {"name": "fedavg"}}, []),
        ({"algorithm": {"name": "splitfed_v1", "cut": 1}}, []),
        ({"algorithm": {"name": "splitnn", "cut": 1}, "links": {"smashed": ["delta", "int8"]}}, ["owner-2"]),
        ({"algorithm": {"name": "fedavg"}, "training__owner_optimizer_state": "keep"}, ALL),
        ({"algorithm": {"name": "mtsl", "cut": 1}, "links": {"smashed": ["delta", "int8"]}}, ALL),
    ],
    ids=["fedavg", "splitfed", "splitnn", "with momentum", "own parts"],
)
def test_weights_that_owners_get_anyway_are_not_in_checkpoints(
    sections: dict[str, Any], with_parts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What codecs keep for a thousand owners came with a thousand models that nobody needs."""
    found: list[Checkpoint] = []
    plain = recovery.snapshot
    monkeypatch.setattr(recovery, "snapshot", lambda *args, **fields: found.append(plain(*args, **fields)) or found[-1])
    train(**{"links": {"weights": "int4"}, "model": WIDE, **sections})
    owners = {name: state for name, state in found[-1].parties.items() if name.startswith("owner")}
    assert all(owners[name]["links"] for name in ALL)
    assert [name for name, state in owners.items() if "parts" in state] == with_parts


def test_what_codecs_keep_is_in_the_estimate_of_memory() -> None:
    """A residual of each weight at each of three owners, and the smashed data of 80 samples at both ends.

    Both are in two checkpoints while the next one is made. Updates wait in their coded form, for which half counts.
    """

    def codecs_bytes(**links: Any) -> int:
        config = check_config(settings(algorithm={"name": "splitfed_v1", "cut": 1}, links=links))
        experiment = build(config)
        algorithm = experiment.begin()
        return expected_needs(experiment, algorithm, algorithm.parties(), {"CPU": 1}).codecs_bytes

    assert codecs_bytes() == 0
    weights = 3 * 8 * (10 * 16 + 16)
    assert codecs_bytes(rules=[{"from": "owner-*", "kind": "weights", "codec": "int8"}]) == weights // 2
    assert codecs_bytes(weights="int8") == weights + weights // 2  # as owners have decoded them, and the updates
    assert codecs_bytes(rules=SPARSE_UP) == 3 * weights + weights // 2
    assert codecs_bytes(weights="int4") == 4 * weights + weights // 2
    assert codecs_bytes(smashed=["delta", "int8"]) == 3 * 3 * 2 * 80 * 8 * 16


def test_feedback_changes_what_is_learned() -> None:
    up = {"from": "owner-*", "kind": "weights", "codec": {"codec": "top_k", "ratio": 0.05, "feedback": True}}
    without = {**up, "codec": {**up["codec"], "feedback": False}}
    found = [
        train(algorithm={"name": "fedavg"}, model=WIDE, links={"rules": [rule]}, training__rounds=8)
        for rule in (up, without)
    ]
    assert found[0].rows[-1]["train_loss"] < found[1].rows[-1]["train_loss"]
    sent = [traffic(result, "owner-0", "aggregator")["weights"] for result in found]
    assert sent[0] == sent[1]
    assert sent[0][0] < sent[0][1] / 5


def test_traffic_to_the_byte() -> None:
    """Batches of 16 and 80 rows of 16 values: a header of 16, five bytes and 16 codes for each row, labels of one."""
    links = {"smashed": "int8", "gradients": "int8", "labels": "narrow"}
    result = train(algorithm={"name": "minibatch_sfl", "cut": 1}, links=links, training__rounds=1)
    up, down = traffic(result, "owner-0", "server"), traffic(result, "server", "owner-0")
    assert up == {"smashed": (0, 0), "labels": (0, 0)} | up
    steps, rows = 5, 80
    assert up["smashed"] == (steps * 16 + rows * (5 + 16), rows * 16 * 8)
    assert up["labels"] == (rows, rows * 4)
    assert down["gradients"] == (steps * 16 + rows * (5 + 16), rows * 16 * 8)
    weights = traffic(result, "owner-0", "aggregator")["weights"]
    assert weights[0] == weights[1] > 0


def test_the_table_of_traffic_tells_kinds_apart(tmp_path: Path) -> None:
    config = check_config(settings(algorithm={"name": "splitfed_v1", "cut": 1}, links={"smashed": ["int4", "zstd"]}))
    result = train_config(config, folder=tmp_path / "run")
    assert read_traffic(tmp_path / "run") == result.links
    (row,) = [
        row
        for row in pq.read_table(tmp_path / "run" / "traffic.parquet").to_pylist()
        if (row["source"], row["destination"]) == ("owner-0", "server")
    ]
    assert row["num_bytes"] == row["smashed_bytes"] + row["labels_bytes"]
    assert row["raw_bytes"] == row["smashed_raw_bytes"] + row["labels_raw_bytes"] > row["num_bytes"]
    assert result.rows[-1]["raw_bytes"] > result.rows[-1]["bytes"]


def test_evaluation_has_the_codecs_of_training() -> None:
    """A network that has learned with a tenth of its smashed data does worse with all of them."""
    sections = {"algorithm": {"name": "splitfed_v1", "cut": 1}, "links": {"smashed": "top_k"}}
    row = train(**sections, training__rounds=5).rows[-1]
    assert row["test_loss"] != row["test_loss_uncoded"]
    plain = train(**sections, training__rounds=5, evaluation={"links": "none"}).rows[-1]
    assert plain["test_loss"] == row["test_loss_uncoded"]
    assert "test_loss_uncoded" not in plain
    assert "test_loss_uncoded" not in train(algorithm={"name": "splitfed_v1"}, links={"smashed": "zstd"}).rows[-1]


def test_a_rule_for_one_owner() -> None:
    rules = [{"from": "owner-1", "kind": "smashed", "codec": "int8"}]
    result = train(links={"rules": rules}, algorithm={"name": "minibatch_sfl", "cut": 1})
    assert traffic(result, "owner-0", "server")["smashed"][0] == traffic(result, "owner-0", "server")["smashed"][1]
    assert traffic(result, "owner-1", "server")["smashed"][0] < traffic(result, "owner-1", "server")["smashed"][1] / 3


@pytest.mark.parametrize("damage", ["truncated", "longer", "shape", "flags", "codec", "kind"])
def test_a_damaged_message_names_its_link(damage: str) -> None:
    rules = check_config(settings(links={"smashed": "int4"})).links.link_rules()
    sent = CodingLink(rules).leaving("owner-0", "server", torch.randn(8, 40), "smashed")
    header = bytearray(sent.header)
    if damage == "truncated":
        sent.arrays = (*sent.arrays[:-1], sent.arrays[-1][:-1])
    elif damage == "longer":
        header[4] += 1
    elif damage == "shape":
        header[11] = 0x7F  # two billion rows
    elif damage == "flags":
        header[1] |= 1
    elif damage == "codec":
        header[0] = 9
    else:
        header[1] |= 0x70
    sent.header = bytes(header)
    with pytest.raises(ValueError, match="owner-0") as refused:
        CodingLink(rules).arriving("owner-0", "server", sent, sent.num_bytes, "smashed")
    assert "server" in str(refused.value)


def test_taps_alone_code_nothing() -> None:
    link = CodingLink(LinkRules())
    values = torch.ones(100)
    assert link.leaving("a", "b", values, "smashed") is values
    assert link.arriving("a", "b", values, 400, "smashed") is values
