"""A recorder keeps what the links of a run carry, and changes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import torch
from support import run_on, same, settings, train

from raysplit.cluster.links.tap import Message, Recorder
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.privacy.seen.replay import refuse_replay, replayed

RUNS: dict[str, dict[str, Any]] = {
    "minibatch_sfl": {},
    "mpsl": {"algorithm": {"name": "mpsl", "cuts": [1, 2]}},
    "with codecs": {"links": {"smashed": "int8", "gradients": ["top_k", "zstd"]}, "model__dtype": "float32"},
    "fedavg": {"algorithm": {"name": "fedavg"}},
}


def equal(a: Message, b: Message) -> bool:
    return (a.source, a.destination, a.kind, a.step) == (b.source, b.destination, b.kind, b.step) and (
        a.tensors.keys() == b.tensors.keys()
        and all(torch.equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
    )


@pytest.mark.parametrize("name", RUNS)
def test_a_replay_has_the_messages_of_the_run_in_bits(name: str) -> None:
    """They are computed again and not stored, so that they have to be the run's own."""
    changes = RUNS[name]
    experiment = build(check_config(settings(**changes)))
    of_run = Recorder(lambda source, destination, kind, step: kind != "other")
    cluster = LocalCluster(links=replace(experiment.link_rules(), taps=(of_run,)))
    watched = run_on(cluster, **changes)
    assert same(watched, train(**changes))
    second = [m for m in of_run.messages if m.round == 1]
    again = replayed(experiment, [1], lambda source, destination, kind, step: kind != "other")
    assert len(again) == len(second) > 0
    assert all(map(equal, again, second))


def test_messages_name_the_samples_behind_their_rows() -> None:
    experiment = build(check_config(settings()))
    messages = replayed(
        experiment, [0], lambda source, destination, kind, step: source == "owner-1" and kind == "labels"
    )
    shard = experiment.setting.owners["owner-1"].shard
    assert sum(len(m.samples) for m in messages) == len(shard)
    for message in messages:
        (y,) = message.tensors.values()
        assert torch.equal(y.long(), shard.take(message.samples).y)


def test_what_the_receiver_has_is_kept_beside() -> None:
    experiment = build(check_config(settings()))
    messages = replayed(
        experiment,
        [0],
        lambda source, destination, kind, step: kind == "smashed" and source == "owner-0",
        beside=lambda node: node.name,
    )
    assert {m.beside for m in messages} == {"server"}


def test_rounds_that_depend_on_who_was_there_are_not_replayed() -> None:
    experiment = build(check_config(settings(reliability={"on_lost_place": "drop"})))
    with pytest.raises(ValueError, match=r"on_lost_place: drop.*rounds last"):
        refuse_replay(experiment)
    assert asyncio.run(LocalCluster().traffic()) == []
