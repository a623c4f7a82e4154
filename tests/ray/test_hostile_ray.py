"""Parties that lie, each in a process of its own: the liar is named as in one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hostile import HostileCluster, Plan
from lies import LIES
from support import run_on

from raysplit.actors.records import BadValue

RULES = {"on_bad_update": "drop", "exclude_after": 1, "quorum": 0.5}
TRAINING = {"rounds": 2, "batch_size": 16, "optimizer": {"lr": 0.1}}


def run_with(make_cluster: Callable[..., Any], plan: Plan, **more: Any) -> Any:
    algorithm = {"name": "splitfed_v1", "cut": 1}
    try:
        return run_on(
            HostileCluster(make_cluster(), plan), algorithm=algorithm, training=TRAINING, reliability=RULES, **more
        )
    except BadValue as refused:
        return refused


@pytest.mark.parametrize(
    ("content", "way", "words"),
    [("gradients", "NaN", "a gradient with NaN"), ("loss", "negative", "a loss of -5, and cross_entropy is never")],
)
def test_a_server_that_lies_is_named(make_cluster: Callable[..., Any], content: str, way: str, words: str) -> None:
    found = run_with(make_cluster, Plan("server", content, LIES[content][way], at=2))
    assert isinstance(found, BadValue)
    assert (found.sender, found.receiver[:6]) == ("server", "owner-")
    assert words in str(found)


@pytest.mark.parametrize(
    ("content", "way"), [("smashed", "another shape"), ("=step_id", "in the name of another"), ("=step_id", "None")]
)
def test_an_owner_that_lies_is_left_out(make_cluster: Callable[..., Any], content: str, way: str) -> None:
    """An owner that calls in the name of another is known by where its call comes from."""
    found = run_with(make_cluster, Plan("owner-1", content, LIES[content][way], at=2))
    assert [row["num_owners"] for row in found.rows] == [2, 2]
    assert all(torch.isfinite(t).all() for t in found.states["global"].values())
