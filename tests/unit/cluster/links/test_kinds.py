"""The table of kinds against the verbs themselves, and kinds that a party of one's own declares."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import pytest
from torch import Tensor

import raysplit.actors
import raysplit.algorithms
from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.data_owner import DataOwner
from raysplit.cluster.links.kinds import VERBS, carries, declared

# The same name for something that is no verb: an owner's own computing on its part.
NO_VERBS = {(DataOwner, "loss_gradient")}


def parties() -> list[type]:
    """Every class of the packages of parties and methods."""
    found: dict[type, None] = {}
    for package in (raysplit.actors, raysplit.algorithms):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            module = importlib.import_module(info.name)
            found |= {kind: None for _, kind in inspect.getmembers(module, inspect.isclass)}
    return [kind for kind in found if kind.__name__.endswith(("Node", "Owner", "Aggregator", "Shard"))]


def test_the_table_agrees_with_the_verbs() -> None:
    seen = set()
    for party in parties():
        for verb, crossing in VERBS.items():
            method = getattr(party, verb, None)
            if method is None or any(issubclass(party, kind) and verb == name for kind, name in NO_VERBS):
                continue
            seen.add(verb)
            parameters = list(inspect.signature(method).parameters.values())[1:]
            names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
            told = [name for name, _ in crossing.parameters]
            assert names[: len(told)] == told, f"{party.__name__}.{verb}"
            assert any(p.kind is p.VAR_POSITIONAL for p in parameters) == (crossing.rest != "other")
    assert seen == set(VERBS)


class Contrast(ComputeNode):
    """A node of one's own."""

    @carries(z="smashed", others="smashed", answer="gradients")
    async def contrast(self, step_id: Any, z: Tensor, *others: Tensor, weight: float = 1.0) -> Tensor:
        raise NotImplementedError


def test_verbs_of_one_s_own_are_declared_where_they_are_written() -> None:
    (verb,) = declared(Contrast)
    crossing = declared(Contrast)[verb]
    assert verb == "contrast"
    assert [crossing.positional(i) for i in range(4)] == ["other", "smashed", "smashed", "smashed"]
    assert (crossing.named("z"), crossing.named("weight")) == ("smashed", "other")
    assert crossing.answer == "gradients"
    assert declared(ComputeNode) == {}


def test_what_cannot_be_declared() -> None:
    with pytest.raises(ValueError, match="unknown kind 'smahed'; did you mean 'smashed'"):
        carries(z="smahed")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown parameter of verb 'zz'; did you mean 'z'"):

        @carries(zz="smashed")
        async def verb(self: Any, z: Tensor) -> None: ...


def test_a_call_knows_its_step() -> None:
    assert VERBS["joint_step"].step_of(("step", (), None, None), {}) == "step"
    assert VERBS["run_round"].step_of((None, None), {"context": "round"}) == "round"
    assert VERBS["current"].step_of((), {}) is None
