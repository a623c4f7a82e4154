"""Calls that travel to a place in one message: order, answers, failures, and what they share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch

from raysplit.cluster.contract import PartySpec, PlaceLost, answered_together, gather
from raysplit.cluster.on_ray.cluster import RayCluster

Make = Callable[..., RayCluster]


class Counter:
    """A party that keeps the order in which it was called."""

    def __init__(self, *, name: str) -> None:
        self.name = name
        self.seen: list[Any] = []
        self.met = asyncio.Event()

    async def note(self, value: Any, *, weight: float = 1.0) -> float:
        self.seen.append(value)
        return float(torch.as_tensor(value).double().sum()) * weight

    async def order(self) -> list[Any]:
        return [value for value in self.seen if not isinstance(value, torch.Tensor)]

    async def make(self) -> torch.Tensor:
        return torch.ones(1000)

    async def fail(self, text: str) -> None:
        raise ValueError(text)

    async def fail_strangely(self) -> None:
        class Odd(Exception):
            def __reduce__(self) -> Any:
                raise TypeError("cannot be sent")

        raise Odd("it was odd")

    async def wait(self) -> str:
        await self.met.wait()
        return "met"

    async def meet(self) -> None:
        self.met.set()

    async def step(self, waits: bool) -> str:
        if not waits:
            return "first"
        await self.met.wait()
        return "met"

    async def share_with(self, other: Any) -> None:
        self.other = other

    async def both(self) -> tuple[str, str]:
        from raysplit.cluster.on_ray import place

        before, place.TOGETHER = place.TOGETHER, frozenset({"step"})  # as joint steps do; their values are checked
        try:
            first, second = self.other.step(False), self.other.step(True)
            early = await first
            await self.other.meet()
            return early, await second
        finally:
            place.TOGETHER = before

    async def die(self) -> None:
        import os

        os._exit(1)


def on(make_cluster: Make, work: Callable[[Any, Any], Any], **options: Any) -> Any:
    async def run() -> Any:
        cluster = make_cluster(**options)
        specs = [PartySpec(name=name, role="node", build=Counter) for name in ("a", "b")]
        try:
            handles = await cluster.deploy(specs)
            return await work(handles["a"], handles["b"])
        finally:
            await cluster.close()

    return asyncio.run(run())


def test_they_begin_in_their_order(make_cluster: Make) -> None:
    async def work(a: Any, b: Any) -> tuple[list[float], list[Any]]:
        with answered_together():
            promises = [a.note(i, weight=2.0) for i in range(20)]
        return await gather(*promises, a.note(20)), await a.order()

    answers, order = on(make_cluster, work)
    assert answers == [2.0 * i for i in range(20)] + [20.0]
    assert [value for value in order if value < 20] == list(range(20))  # the last did not travel with them


def test_a_promise_that_they_share_and_promises_of_their_own(make_cluster: Make) -> None:
    async def work(a: Any, b: Any) -> tuple[list[float], float]:
        made = b.make()
        with answered_together():
            promises = [a.note(made) for _ in range(3)] + [a.note(b.make(), weight=0.5)]
            passed_on = b.note(promises[0])  # an answer of the message is an argument like any other
        return await gather(*promises), await passed_on

    assert on(make_cluster, work) == ([1000.0] * 3 + [500.0], 1000.0)


def test_a_failure_is_told_while_others_wait_for_the_one_that_failed(make_cluster: Make) -> None:
    """Owners wait for one another in a joint step: if one fails, its error must not wait for theirs."""

    async def work(a: Any, b: Any) -> str:
        with answered_together():
            waiting, failing, done = a.wait(), a.fail("owner-3 has a loss of NaN"), a.note(1)
        with pytest.raises(ValueError, match="owner-3 has a loss of NaN"):
            await asyncio.wait_for(failing.envelope(), 30)
        assert await done == 1.0
        await a.meet()
        answer: str = await waiting
        return answer

    assert on(make_cluster, work) == "met"


@pytest.mark.parametrize("is_passed_on", [False, True])
def test_a_failure_that_nobody_awaits_is_told_in_a_line(
    is_passed_on: bool, make_cluster: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """A round that forgot an ``await`` went on with one update less on Ray, and nothing told it.

    Where the answer is an argument of another call, that call fails, and whoever awaits it is told.
    """

    async def work(a: Any, b: Any) -> None:
        promise = a.fail("no room")
        if is_passed_on:
            with pytest.raises(ValueError, match="no room"):
                await b.note(promise)
        else:
            del promise
            while not caplog.messages:
                await a.order()

    on(make_cluster, work)
    told = [message for message in caplog.messages if "nobody awaits" in message]
    assert told == [] if is_passed_on else ["fail of a failed, and nobody awaits it: ValueError: no room"]


def test_an_answer_does_not_wait_for_a_call_that_waits_for_its_reader(make_cluster: Make) -> None:
    """Owners of a place that were absent for a step shared its message with a later step, and all waited for ever."""

    async def work(a: Any, b: Any) -> list[str]:
        await b.share_with(a)
        return [*await b.both()]

    assert on(make_cluster, work) == ["first", "met"]


def test_an_error_that_cannot_be_sent_is_told_by_its_text(make_cluster: Make) -> None:
    async def work(a: Any, b: Any) -> float:
        with answered_together():
            odd, fine = a.fail_strangely(), a.note(3)
        with pytest.raises(RuntimeError, match="it was odd"):
            await odd
        answer: float = await fine
        return answer

    assert on(make_cluster, work) == 3.0


def test_a_lost_place_is_told_to_all_of_them(make_cluster: Make) -> None:
    async def work(a: Any, b: Any) -> int:
        with answered_together():
            promises = [a.wait(), a.die(), a.wait()]
        for promise in promises:
            with pytest.raises(PlaceLost):
                await promise
        return len(promises)

    assert on(make_cluster, work, sharing="alone") == 3
