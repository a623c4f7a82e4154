"""The exchange of gradients between servers that share the owners: what an attempt that is over must not leave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest
import torch

from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import RoundContext, StaleCall, StepId
from raysplit.actors.server_shard import Offer, ServerShard, Sharing
from raysplit.cluster.contract import current_caller
from raysplit.models.spec import ModelSpec


class Other:
    """Another server, which answers when it is allowed to."""

    name = "server-1"

    def __init__(self) -> None:
        self.allowed = asyncio.Event()
        self.came: list[tuple[int, Offer]] = []

    def take_offer(self, step_id: StepId, index: int, offer: Offer) -> Awaitable[Any]:
        self.came.append((step_id.step, offer))
        return asyncio.ensure_future(self.allowed.wait())


def task(attempt: int) -> RoundContext:
    return RoundContext(round=0, attempt=attempt, cohort=("a", "b"), weights=(0.5, 0.5), num_steps=(3, 3))


def tag(step: int, attempt: int = 0) -> StepId:
    return StepId(owner="b", round=0, step=step, attempt=attempt)


def offer(value: float) -> Offer:
    return torch.full((3,), value), 2


def opened(other: Any) -> tuple[ServerShard, Sharing]:
    """The first of two servers, in the first attempt of a round."""
    spec = ModelSpec(name="mlp", input_shape=(4,), num_classes=3, options={"hidden": [4]}, seed=0)
    server = ServerShard(name="server-0", recipe=PartRecipe(spec=spec, cuts=(1,), index=1))
    sharing = Sharing(owners=("a",), servers=(other, other), index=0, aggregator=other)
    server.begin_share(task(0), sharing)
    current_caller.set(other.name)  # offers come from the other server
    return server, sharing


def played(game: Awaitable[None]) -> None:
    async def main() -> None:
        await asyncio.wait_for(game, 10)

    asyncio.run(main())


def test_offers_meet_in_server_order_whoever_is_first() -> None:
    async def game() -> None:
        other = Other()
        server, sharing = opened(other)
        await server.take_offer(tag(0), 1, offer(1))  # before this one is ready
        first = await server._exchange(tag(0), offer(0), sharing)
        other.allowed.set()
        later = asyncio.ensure_future(server._exchange(tag(1), offer(2), sharing))
        await asyncio.sleep(0)
        await server.take_offer(tag(1), 1, offer(3))
        assert [float(values[0]) for values, _ in [*first, *await later]] == [0, 1, 2, 3]
        assert [step for step, _ in other.came] == [0, 1]

    played(game())


def test_an_offer_of_another_attempt_is_refused() -> None:
    async def game() -> None:
        server, sharing = opened(Other())
        server.begin_share(task(1), sharing)
        with pytest.raises(StaleCall, match="refuses"):
            await server.take_offer(tag(0), 1, offer(7))
        await server.take_offer(tag(0, attempt=1), 1, offer(8))
        _, (values, _) = await server._exchange(tag(0, attempt=1), offer(0), sharing)
        assert float(values[0]) == 8

    played(game())


@pytest.mark.parametrize("arrived", [False, True])
def test_an_exchange_of_an_attempt_that_is_over_ends(arrived: bool) -> None:
    """While it waits for the gradient of the other, also where that has come at the very last moment."""

    async def game() -> None:
        server, sharing = opened(Other())
        exchange = asyncio.ensure_future(server._exchange(tag(0), offer(0), sharing))
        await asyncio.sleep(0)
        if arrived:
            await server.take_offer(tag(0), 1, offer(1))
        server.begin_share(task(1), sharing)
        with pytest.raises(StaleCall):
            await exchange

    played(game())


def test_a_server_that_waits_to_send_learns_that_the_attempt_is_over() -> None:
    async def game() -> None:
        other = Other()  # never answers
        server, sharing = opened(other)
        await server.take_offer(tag(0), 1, offer(1))
        await server._exchange(tag(0), offer(0), sharing)
        waiting = asyncio.ensure_future(server._exchange(tag(1), offer(2), sharing))
        await asyncio.sleep(0)
        assert [step for step, _ in other.came] == [0]  # one under way at most
        server.begin_share(task(1), sharing)
        with pytest.raises(StaleCall):
            await waiting
        assert [step for step, _ in other.came] == [0]

    played(game())


def test_who_cannot_be_told_is_not_waited_for() -> None:
    class Gone(Other):
        def take_offer(self, step_id: StepId, index: int, offer: Offer) -> Awaitable[Any]:
            gone = asyncio.get_running_loop().create_future()
            gone.set_exception(ConnectionError("gone"))
            return gone

    async def game() -> None:
        server, sharing = opened(Gone())
        with pytest.raises(ConnectionError, match="gone"):
            await server._exchange(tag(0), offer(0), sharing)

    played(game())
