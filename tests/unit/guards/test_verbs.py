"""The ledger is complete: every verb with which an owner answers, or calls, has a kind of value."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest

from raysplit.actors.data_owner import DataOwner
from raysplit.actors.verbs import OwnerHandle
from raysplit.algorithms import ALGORITHMS
from raysplit.algorithms.mas.owner import MultiTaskOwner
from raysplit.cluster.links.kinds import VERBS
from raysplit.guards.account.verbs import ANSWERS, CALLS, VALUES, answer_of, sent_with

LOCAL = {"batches", "whole_shard", "note", "train_batch", "loss_gradient", "first_backward", "first", "last", "guard"}
"""What an owner's own program asks; nothing of it leaves by itself."""


def kinds(cls: type) -> Iterator[type]:
    """The class and all that derive from it, without those of other tests in the same process."""
    if cls.__module__.startswith("raysplit."):
        yield cls
    for sub in cls.__subclasses__():
        yield from kinds(sub)


def verbs(cls: type) -> set[str]:
    return {
        name
        for name, member in inspect.getmembers(cls)
        if not name.startswith("_") and (callable(member) or isinstance(member, property))
    }


def test_every_verb_of_owners_has_a_kind() -> None:
    assert len(ALGORITHMS) > 10  # all modules with owners are imported
    found = {name for cls in (*kinds(DataOwner), MultiTaskOwner, OwnerHandle) for name in verbs(cls)}
    local = {"learn", "measure_affinity", "train_batch_balanced", "name"}  # programs of groups of tasks
    assert found - LOCAL - local - set(ANSWERS) == set()


def test_kinds_are_known() -> None:
    assert {kind for kind in (*ANSWERS.values(), *CALLS.values()) if kind} <= set(VALUES)


@pytest.mark.parametrize("verb", ["new_verb", "of_a_plug_in"])
def test_an_unknown_verb_is_other_and_promises_nothing(verb: str) -> None:
    assert answer_of(verb) == "other"
    assert sent_with(verb, "other") == "other"
    assert sent_with(verb, "smashed") == "z"


def test_every_verb_of_links_with_values_of_owners_has_a_kind() -> None:
    carried = {(verb, kind) for verb, crossing in VERBS.items() for kind in crossing.kinds if kind != "other"}
    assert {sent_with(verb, kind) for verb, kind in carried} == {"z", "y", "g", "weights"}
