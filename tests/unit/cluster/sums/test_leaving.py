"""Updates that leave a process together: what is summed, and what travels alone so that its sender can be named."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from raysplit.actors.aggregator import Aggregator
from raysplit.actors.records import BadValue, RoundContext, StaleCall
from raysplit.cluster.sums.leaving import Sum, Update, Updates, as_update, sums_of
from raysplit.cluster.sums.tree import Node

CONTEXT = RoundContext(
    round=0,
    cohort=("a", "b", "c", "d"),
    weights=(0.1, 0.2, 0.3, 0.4),
    num_steps=(1,) * 4,
    numbers=(3, 4, 7, 8),
    adds_up=True,
)


def state(number: int, value: float = 0.0) -> dict[str, Tensor]:
    gen = torch.Generator().manual_seed(number)
    return {"w": torch.randn(3, generator=gen) + value, "count": torch.tensor(number)}


def updates(*owners: str, **more: float) -> list[Update]:
    return [Update("agg", CONTEXT, name, state(ord(name), more.get(name, 0.0))) for name in owners]


def aggregator() -> Aggregator:
    made = Aggregator(name="agg", state=state(0))
    made.begin(CONTEXT)
    return made


async def submitted(owners: list[Update], sums: list[Sum]) -> dict[str, Tensor]:
    made = aggregator()
    for total in sums:
        await made.submit_sum(CONTEXT, total.node, total.total)
    for update in owners:
        await made.submit(CONTEXT, update.owner, update.state)
    return await made.current()


def test_owners_of_a_node_are_summed_and_the_mean_has_the_same_bits() -> None:
    here = updates("a", "c")  # owners 3 and 7: all with odd numbers
    ((first, total),) = sums_of(here)
    assert (first.owner, total.node, total.owners) == ("a", Node(2, 1), ("a", "c"))
    assert total.each_bytes == 3 * 4 + 8
    one_by_one = asyncio.run(submitted(updates("d", "a", "b", "c"), []))
    together = asyncio.run(submitted(updates("d", "b"), [total]))
    assert torch.equal(one_by_one["w"], together["w"])
    assert one_by_one["w"].dtype is together["w"].dtype is torch.float32
    assert one_by_one["count"] == together["count"] == ord("a")


def test_what_is_no_whole_node_or_differs_travels_alone() -> None:
    assert not list(sums_of(updates("a", "b")))  # in nodes with c and d
    assert not list(sums_of(updates("d")))
    assert not list(sums_of(updates("a", "c", c=float("nan"))))  # the receiver names c
    odd = updates("a")[0], Update("agg", CONTEXT, "c", {"w": torch.zeros(4), "count": torch.tensor(0)})
    assert not list(sums_of(odd))
    assert not list(sums_of([odd[0], replace_party(updates("c")[0])]))


def replace_party(update: Update) -> Update:
    return update._replace(party="another")


def test_only_rounds_that_add_up_and_small_updates_are_summed() -> None:
    small = state(1)
    assert as_update("agg", (CONTEXT, "a", small), {}) == Update("agg", CONTEXT, "a", small)
    assert as_update("agg", (replace(CONTEXT, adds_up=False), "a", small), {}) is None
    assert as_update("agg", (CONTEXT, "a", small, small), {}) is None  # in pieces
    assert as_update("agg", (CONTEXT, "a", small), {"meeting": 1}) is None
    assert as_update("agg", (CONTEXT, "stranger", small), {}) is None
    assert as_update("agg", (CONTEXT, "a", {"w": torch.zeros(2**20)}), {}) is None


def test_answers_reach_everybody_and_a_second_update_is_sent_as_it_is() -> None:
    async def run() -> tuple[list[Any], list[Any]]:
        waiting: Updates[str] = Updates()
        loop = asyncio.get_running_loop()
        made = [loop.create_future() for _ in range(4)]
        for update, future in zip(updates("a", "b", "c", "a"), made, strict=True):
            waiting.add(update, update.owner, future)
        assert waiting
        sent = list(waiting.taken(lambda request, first, total: f"sum of {'+'.join(total.owners)} by {request}"))
        assert not waiting
        sent[0][1].set_exception(StaleCall("too late"))
        for _, future in sent[1:]:
            future.set_result("taken")
        return [request for request, _ in sent], await asyncio.gather(*made, return_exceptions=True)

    requests, answers = asyncio.run(run())
    assert requests == ["sum of a+c by a", "b", "a"]
    assert [str(answer) for answer in answers] == ["too late", "taken", "too late", "taken"]


def test_a_sum_that_does_not_fit_is_refused() -> None:
    ((_, total),) = sums_of(updates("a", "c"))

    async def refused(sum_: Sum, *before: Update, context: RoundContext = CONTEXT) -> str:
        made = aggregator()
        with pytest.raises(Exception) as found:  # noqa: PT012
            for update in before:
                await made.submit(CONTEXT, update.owner, update.state)
            await made.submit_sum(context, sum_.node, sum_.total)
        return str(found.value)

    assert "takes no sum" in asyncio.run(refused(total, *updates("c")))
    assert "takes no sum" in asyncio.run(refused(total._replace(node=Node(16, 5))))
    assert "not in round 1, attempt 0" in asyncio.run(refused(total, context=replace(CONTEXT, round=1)))
    strange = total._replace(total={"w": total.total["w"]})
    assert "'count' is missing" in asyncio.run(refused(strange))
    infinite = total._replace(total={**total.total, "w": torch.full((3,), torch.inf, dtype=torch.float64)})
    assert "the update of a in round 1 is refused: w has values that are not finite" in asyncio.run(refused(infinite))


def test_an_update_that_is_not_finite_is_named_when_all_are_summed() -> None:
    """Its numbers are looked at in the mean, which none of them leaves finite."""
    with pytest.raises(BadValue, match="b sent agg weights with NaN in 'w'") as refused:
        asyncio.run(submitted(updates("a", "b", "c", "d", b=float("nan")), []))
    assert refused.value.sender == "b"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e300])
def test_a_sum_whose_numbers_no_weight_can_have_is_refused(number: float) -> None:
    """1e300 is finite in double precision, and became an infinite weight of the average without a word."""
    ((_, total),) = sums_of(updates("a", "c"))
    total.total["w"][0] = number
    with pytest.raises(ValueError, match="a"):
        asyncio.run(submitted(updates("d", "b"), [total]))
