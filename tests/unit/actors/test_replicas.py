"""Replicas of a server's part: they exist once, and are judged with the parts that belong to them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch
from support import same, settings, train
from torch import Tensor

from raysplit.actors.aggregation import UpdateRefused
from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import RoundContext, StepId
from raysplit.config.build import build
from raysplit.config.run import check_config

SEVEN = {"partition": {"name": "quantity", "num_owners": 7}}
MPSL = {"name": "mpsl", "cuts": [1, 2]}
V1 = {"name": "splitfed_v1", "cut": 1}


def replica_counts(optimizer: OptimizerSpec, *, restart: bool) -> list[int]:
    """How many replicas a server has after each of ten rounds of 2 of 20 owners."""
    spec = build(check_config(settings())).setting.spec
    recipe = PartRecipe(spec=spec, cuts=(1,), index=1, optimizer=optimizer)
    node = ComputeNode(name="server", recipe=recipe, copies="per_owner", restart_optimizer=restart)
    counts = []

    async def rounds() -> None:
        for number in range(10):
            cohort = (f"owner-{2 * number}", f"owner-{2 * number + 1}")
            context = RoundContext(round=number, cohort=cohort, weights=(0.5, 0.5), num_steps=(1, 1))
            node.begin(context)
            for name in cohort:
                z, y = torch.ones(4, 16, dtype=torch.float64), torch.arange(4)
                await node.loss_gradient(StepId(owner=name, round=number, step=0), z, y)
            await asyncio.gather(*[node.average(context, name) for name in cohort])
            counts.append(len(node._stages) + len(node._spare))

    asyncio.run(rounds())
    return counts


def test_a_replica_of_an_owner_that_is_not_in_the_round_is_not_kept() -> None:
    """After 40 rounds of 5 of 100 owners, a server had 86 replicas, of which 81 were equal."""
    assert replica_counts(OptimizerSpec(lr=0.1), restart=True) == [2] * 10
    assert replica_counts(OptimizerSpec(lr=0.1), restart=False) == [2] * 10
    momentum = OptimizerSpec(lr=0.1, options={"momentum": 0.9})
    assert replica_counts(momentum, restart=True) == [2] * 10
    assert replica_counts(momentum, restart=False) == list(range(2, 21, 2))  # each has a momentum of its own


@pytest.mark.parametrize("state", ["restart", "keep"])
def test_drawn_cohorts_train_as_in_fedavg(state: str) -> None:
    training = {"rounds": 5, "batch_size": 16, "cohort_size": 2, "owner_optimizer_state": state}
    training |= {"optimizer": {"lr": 0.1, "momentum": 0.9}}
    runs = [train(algorithm=method, training=training, **SEVEN) for method in ({"name": "fedavg"}, V1, MPSL)]
    assert same(runs[1], runs[0])
    assert same(runs[2], runs[0])


@pytest.mark.parametrize("method", [V1, {**V1, "num_servers": 3}, MPSL], ids=["splitfed_v1", "three servers", "mpsl"])
def test_krum_and_norms_judge_whole_models(method: dict[str, Any]) -> None:
    """Krum chose the half of one owner and the other half of another: weights differed from FedAvg's by 0.17."""
    krum = {"aggregation": "krum", "tolerated": 2}
    federated = train(algorithm={"name": "fedavg"}, reliability=krum, **SEVEN)
    assert same(train(algorithm=method, reliability=krum, **SEVEN), federated)
    assert not same(federated, train(algorithm={"name": "fedavg"}, **SEVEN))


def norm_of_the_largest_update() -> float:
    before: dict[str, Tensor] = build(check_config(settings(**SEVEN))).setting.spec.build().state_dict()
    alone = train(algorithm={"name": "local"}, training__rounds=1, **SEVEN)
    norms: list[float] = [
        sum(float((state[key] - before[key]).square().sum()) for key in before) ** 0.5
        for state in alone.states.values()
    ]
    return max(norms)


@pytest.mark.parametrize("method", [{"name": "fedavg"}, V1, MPSL], ids=lambda method: method["name"])
def test_a_norm_is_that_of_the_whole_update_in_the_first_round_too(method: dict[str, Any]) -> None:
    """Replicas at a server were compared with themselves in the first round, and halves with the limit for wholes."""
    largest = norm_of_the_largest_update()
    sections = {"algorithm": method, "training__rounds": 1, **SEVEN}
    train(**sections, reliability={"max_update_norm": 1.001 * largest})
    with pytest.raises(UpdateRefused, match="in round 1 is refused"):
        train(**sections, reliability={"max_update_norm": 0.999 * largest})


def test_a_replica_that_is_averaged_in_place_is_compared_with_the_initial_weights() -> None:
    node = ComputeNode(
        name="server",
        recipe=PartRecipe(spec=build(check_config(settings())).setting.spec, cuts=(1,), index=1),
        copies="per_owner",
        rules=check_config(settings(reliability={"max_update_norm": 1e-9}, algorithm={"name": "fedavg"})).reliability,
    )

    async def round() -> None:
        context = RoundContext(round=0, cohort=("owner-0",), weights=(1.0,), num_steps=(1,))
        node.begin(context)
        z, y = torch.ones(4, 16, dtype=torch.float64), torch.arange(4)
        await node.loss_gradient(StepId(owner="owner-0", round=0, step=0), z, y)
        await node.average(context, "owner-0")

    with pytest.raises(UpdateRefused, match="max_update_norm is 1e-09"):
        asyncio.run(round())


def test_parts_that_move_are_refused_where_whole_models_are_judged() -> None:
    config = check_config(settings(algorithm={**MPSL, "on_offer": ["node-1"]}, reliability={"max_update_norm": 1.0}))
    with pytest.raises(ValueError, match="judge whole models at the aggregator"):
        build(config).begin()
