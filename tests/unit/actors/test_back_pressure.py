"""What is under way is bounded: one batch of an owner on a link, however slow the other end is."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
import torch
from disturbed import NODES, changes
from support import settings

from raysplit.actors.compute_node import ComputeNode
from raysplit.actors.data_owner import DataOwner
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import RoundContext, StaleCall, StepId
from raysplit.algorithms.setting import Team
from raysplit.cluster.faults import Fault, FaultyCluster
from raysplit.cluster.links.tensors import Envelope, num_bytes
from raysplit.cluster.local.calls import LocalHandle
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.simulated.loop import run_virtual
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.models.spec import ModelSpec
from raysplit.training.loop import run


class Count:
    """Calls with tensors that have begun and not ended: the most on each link, and at each party."""

    def __init__(self) -> None:
        self.now: Counter[Any] = Counter()
        self.most: Counter[Any] = Counter()

    def add(self, *keys: Any) -> None:
        for key in keys:
            self.now[key] += 1
            self.most[key] = max(self.most[key], self.now[key])

    def take(self, *keys: Any) -> None:
        self.now.subtract(keys)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Count:
    found, plain = Count(), LocalHandle._run

    async def counted(
        self: LocalHandle, caller: str, verb: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Envelope:
        carries = any(hasattr(value, "__await__") or num_bytes(value) for value in args)
        keys = [(caller, self.name), self.name] if carries else []
        found.add(*keys)
        try:
            return await plain(self, caller, verb, args, kwargs)
        finally:
            found.take(*keys)

    monkeypatch.setattr(LocalHandle, "_run", counted)
    return found


CASES = ["splitnn", "splitfed_v1", "splitfed_v2", "minibatch_sfl", "mpsl", "mtsl", "minibatch_sfl on two servers"]


@pytest.mark.parametrize("name", [*CASES, "mtl_split"])
def test_a_slow_node_has_one_batch_of_each_owner_at_most(name: str, count: Count) -> None:
    """Every call of the node takes ten seconds, and owners no time at all."""
    node = NODES.get(name, "server")
    slow = [Fault(party=node, at_call=call, kind="delay", delay_s=10.0) for call in range(1, 200)]
    config = check_config(settings(**changes(name)))
    owners = [f"owner-{i}" for i in range(config.partition.num_owners)]
    run_virtual(run(build(config), FaultyCluster(LocalCluster(), slow)))
    nodes = {party for _, party in (key for key in count.most if isinstance(key, tuple)) if party not in owners}
    links = {(owner, party): count.most[owner, party] for owner in owners for party in nodes}
    assert links[owners[0], node] == 1
    assert max(links.values()) == 1
    assert count.most[node] <= len(owners)
    assert not +count.now


def opened() -> ComputeNode:
    """A server in a round of the owners a and b."""
    spec = ModelSpec(name="mlp", input_shape=(4,), num_classes=3, options={"hidden": [4]}, seed=0)
    node = ComputeNode(name="server", recipe=PartRecipe(spec=spec, cuts=(1,), index=1))
    node.begin(RoundContext(round=0, cohort=("a", "b"), weights=(0.5, 0.5), num_steps=(2, 2)))
    return node


def step_of(node: ComputeNode, verb: str, owner: str, step: int, turn: int) -> asyncio.Future[Any]:
    """A step under way: at its turn, or together with the other owner."""
    order: Any = turn if verb == "shared_step" else ("a", "b")
    step_id = StepId(owner=owner, round=0, step=step)
    return asyncio.ensure_future(getattr(node, verb)(step_id, order, torch.ones(2, 4), torch.tensor([0, 1])))


@pytest.mark.parametrize("verb", ["shared_step", "joint_step"])
def test_a_second_batch_is_refused_and_the_first_goes_on(verb: str) -> None:
    async def calls() -> None:
        node = opened()
        first = step_of(node, verb, "a", 0, turn=1)  # waits for b
        with pytest.raises(StaleCall, match="a has a batch in flight at server"):
            await step_of(node, verb, "a", 1, turn=2)
        await step_of(node, verb, "b", 0, turn=0)
        loss, _ = await first
        assert loss > 0

    asyncio.run(calls())


async def hasty(owner: DataOwner, team: Team, context: RoundContext, **_: Any) -> None:
    """Sends all its batches without waiting for any of them."""
    await asyncio.gather(
        *[_hasty_step(owner, team, context, step_id, batch) for step_id, batch in owner.batches(context)]
    )


async def _hasty_step(owner: DataOwner, team: Team, context: RoundContext, step_id: StepId, batch: Any) -> None:
    z = await owner.first.forward(step_id, batch.x)
    await team.server.joint_step(step_id, context.cohort, z, batch.y)


def test_a_program_that_does_not_wait_is_stopped_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysplit.algorithms.minibatch_sfl.minibatch_round", hasty)
    config = check_config(settings(**changes("minibatch_sfl")))
    with pytest.raises(StaleCall, match="owner-0 has a batch in flight at server"):
        asyncio.run(run(build(config), LocalCluster()))
