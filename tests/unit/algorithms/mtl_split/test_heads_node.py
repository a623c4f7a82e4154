"""The node with heads, and the parts of its model: gradients are added head by head, in the order of the tasks."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from support import same
from torch import Tensor, nn

from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import RoundContext, StaleCall, StepId
from raysplit.algorithms.mtl_split.heads_node import HeadsNode
from raysplit.models.classifier.spec import ClassifierSpec
from raysplit.models.cutting.dropout import dropout_stream, seed_dropouts


def spec_of(**options: Any) -> ClassifierSpec:
    classes = (("a", ("x", "y")), ("b", ("x", "y")), ("c", ("x", "y")))
    options = {"classes": classes, "backbone": "small", "hidden": 8} | options
    return ClassifierSpec(name="multi_task", input_shape=(3, 32, 32), num_classes=2, options=options, seed=1)


def test_parts_keep_the_names_of_the_whole() -> None:
    spec = spec_of()
    whole = spec.build().state_dict()
    for cuts in ((), (0,), (0, 1), (0, 2), (0, 1, 2)):
        states = [part.state_dict() for part in spec.parts(cuts)]
        assert len(states) == (len(cuts) + 1 if cuts else 1)
        union = {key: value for state in states for key, value in state.items()}
        assert len(union) == sum(map(len, states))
        assert same(union, whole)
    for wrong in ((1,), (0, 0), (0, 3), ("heads",)):
        with pytest.raises(ValueError, match="for a model of 3 heads; give 0, after its backbone"):
            spec.parts(wrong)


def node(spec: ClassifierSpec) -> tuple[HeadsNode, StepId]:
    made = HeadsNode(name="heads-0", recipe=PartRecipe(spec=spec, cuts=(0,), index=1, optimizer=OptimizerSpec()))
    made.begin(RoundContext(round=0, cohort=("owner-0",), weights=(1.0,), num_steps=(1,)))
    return made, StepId(owner="owner-0", round=0, step=0)


def test_gradients_are_added_head_by_head_to_those_before() -> None:
    """Adding 1e8 and taking it away again shows the order: what was small before is lost, what comes after is not."""
    spec = spec_of()
    heads, tag = node(spec)
    z = torch.rand(4, 128 * 4, generator=torch.Generator().manual_seed(0))
    y = {task: torch.tensor([0, 1, 0, 1]) for task in "abc"}

    async def summed(before: Tensor | None) -> Tensor:
        await heads.train_heads(tag, z, y)
        return await heads.add_gradients(tag, before)

    model = spec.build().train()
    seed_dropouts(model)
    expected = []
    for task in "abc":
        own = z.clone().requires_grad_()
        with dropout_stream(tag.stream(0, "dropout")):
            nn.functional.cross_entropy(model.heads[task](own), y[task]).backward()
        expected.append(own.grad)
    before = torch.full_like(z, 1e8)
    assert asyncio.run(summed(before)).equal(((before + expected[0]) + expected[1]) + expected[2])


def test_gradients_are_given_once_and_for_their_own_step() -> None:
    heads, tag = node(spec_of())
    with pytest.raises(StaleCall, match="has no gradients of"):
        asyncio.run(heads.add_gradients(tag, None))
    with pytest.raises(StaleCall, match="is in round 0"):
        asyncio.run(heads.add_gradients(StepId(owner="owner-0", round=1, step=0), None))
