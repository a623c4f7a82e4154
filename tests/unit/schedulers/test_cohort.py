"""For whom a round waits: who has come, when it is over, what becomes of those who are late."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from disturbed import changes
from support import settings, train, weights

from raysplit.actors.records import NonFiniteLoss, RoundContext, StaleCall
from raysplit.algorithms.fedavg.open_aggregator import OpenAggregator
from raysplit.cluster.faults import Fault, FaultyCluster
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.simulated.loop import run_virtual
from raysplit.config.build import build
from raysplit.config.run import ConfigError, check_config
from raysplit.runs.result import Result
from raysplit.schedulers.cohort import CohortRules, Gathering, choose_cohort
from raysplit.seeding import generator
from raysplit.training.loop import run

FIVE = ("a", "b", "c", "d", "e")


def test_a_cohort_is_drawn_in_owner_order() -> None:
    drawn = choose_cohort(FIVE, 3, generator(0, "cohort"))
    assert len(drawn) == 3
    assert list(drawn) == sorted(drawn)
    assert choose_cohort(FIVE, None, generator(0, "cohort")) == FIVE


@pytest.mark.parametrize(
    ("wanted", "share", "available", "drawn"),
    [(4, 0.0, 9, 4), (4, 0.25, 9, 5), (4, 0.3, 9, 6), (10, 0.3, 20, 13), (4, 1.0, 5, 5)],
)
def test_over_selection(wanted: int, share: float, available: int, drawn: int) -> None:
    rules = CohortRules(over_selection=share)
    assert rules.num_drawn(available, wanted) == drawn
    assert rules.num_wanted(drawn, wanted) == wanted


def story(rules: CohortRules, *events: tuple[float, str]) -> list[bool]:
    """Whether it is over after each event: an owner comes, ``-owner`` will not come, ``.`` just time passes."""
    gathering = Gathering(rules, FIVE)
    over = []
    for at_s, what in events:
        if what.startswith("-"):
            gathering.lose(what[1:])
        elif what != ".":
            gathering.arrive(what)
        over.append(gathering.is_over(at_s))
    return over


@pytest.mark.parametrize(
    ("rules", "events", "over"),
    [
        # everybody is wanted and nobody is lost
        (CohortRules(), [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (9, "e")], [False, False, False, False, True]),
        # four of five are wanted
        (CohortRules(over_selection=0.25), [(1, "a"), (2, "b"), (3, "c"), (4, "d")], [False, False, False, True]),
        # at the deadline three are a quorum of half of five
        (CohortRules(round_deadline_s=5), [(1, "a"), (2, "b"), (3, "c"), (4.9, "."), (5, ".")], [False] * 4 + [True]),
        # at the deadline two are none: the third ends it
        (CohortRules(round_deadline_s=5), [(1, "a"), (2, "b"), (5, "."), (7, "c")], [False, False, False, True]),
        # who is lost is not waited for
        (CohortRules(), [(1, "-e"), (2, "a"), (3, "b"), (4, "c"), (5, "d")], [False, False, False, False, True]),
        (CohortRules(), [(2, "a"), (3, "b"), (4, "c"), (5, "d"), (6, "-e")], [False, False, False, False, True]),
    ],
)
def test_stories(rules: CohortRules, events: list[tuple[float, str]], over: list[bool]) -> None:
    assert story(rules, *events) == over


def test_a_quorum_that_cannot_come_is_hopeless() -> None:
    gathering = Gathering(CohortRules(quorum=0.6), FIVE)
    gathering.arrive("a")
    for name in ("b", "c"):
        gathering.lose(name)
    assert not gathering.is_hopeless  # a, d and e are three of five
    gathering.lose("d")
    assert gathering.is_hopeless


# -- the aggregator in virtual time ------------------------------------------------------------------------------------

TASK = RoundContext(round=0, cohort=("a", "b", "c", "d"), weights=(0.4, 0.3, 0.2, 0.1), num_steps=(1, 1, 1, 1))
NEXT = RoundContext(round=1, cohort=("a", "b"), weights=(0.5, 0.5), num_steps=(1, 1))
UPDATES = {"a": 1.0, "b": 2.0, "c": 4.0, "d": 8.0}


def state(value: float) -> dict[str, torch.Tensor]:
    return {"w": torch.tensor([value], dtype=torch.float64)}


async def rounds(rules: CohortRules, arrivals: Sequence[tuple[float, str]], wanted: int | None) -> list[Any]:
    """Two rounds; owners of the first come at the given times, those of the second at once with zeros."""
    loop = asyncio.get_running_loop()
    aggregator = OpenAggregator(name="aggregator", state=state(0.0), cohort_rules=rules, cohort_size=wanted)
    aggregator.begin(TASK)

    async def come(at_s: float, owner: str) -> None:
        await asyncio.sleep(at_s)
        await aggregator.submit(TASK, owner, state(UPDATES[owner]))

    coming = [asyncio.ensure_future(come(*arrival)) for arrival in arrivals]
    came = await aggregator.closed(TASK)
    closed_s = loop.time()
    first = float((await aggregator.current())["w"])
    await asyncio.gather(*coming)
    aggregator.begin(NEXT)
    for owner in ("a", "b"):
        await aggregator.submit(NEXT, owner, state(0.0))
    return [came, closed_s, first, float((await aggregator.current())["w"])]


ARRIVALS = [(7.0, "c"), (1.0, "b"), (30.0, "d"), (2.0, "a")]


@pytest.mark.parametrize(
    ("rules", "came", "closed_s", "mean", "after"),
    [
        # all four: 0.4 * 1 + 0.3 * 2 + 0.2 * 4 + 0.1 * 8
        (CohortRules(), ("a", "b", "c", "d"), 30.0, 2.6, 0.0),
        # two by the deadline are half of four: (0.4 * 1 + 0.3 * 2) / 0.7
        (CohortRules(round_deadline_s=5.0), ("a", "b"), 5.0, 1.0 / 0.7, 0.0),
        # two are no quorum of three quarters: the third ends it
        (CohortRules(round_deadline_s=5.0, quorum=0.75), ("a", "b", "c"), 7.0, 2.0, 0.0),
        # three of four are wanted
        (CohortRules(over_selection=1 / 3), ("a", "b", "c"), 7.0, 2.0, 0.0),
        # the late d counts in the next round: 0.1 * 8 / (0.5 + 0.5 + 0.1)
        (CohortRules(over_selection=1 / 3, late="merge"), ("a", "b", "c"), 7.0, 2.0, 0.8 / 1.1),
        # the late c and d: (0.2 * 4 + 0.1 * 8) / (1 + 0.2 + 0.1)
        (CohortRules(round_deadline_s=5.0, late="merge"), ("a", "b"), 5.0, 1.0 / 0.7, 1.6 / 1.3),
    ],
)
def test_rounds(rules: CohortRules, came: tuple[str, ...], closed_s: float, mean: float, after: float) -> None:
    found = run_virtual(rounds(rules, ARRIVALS, 3 if rules.late == "merge" and rules.over_selection else None))
    assert found[:2] == [came, closed_s]
    assert found[2:] == pytest.approx([mean, after], rel=1e-12)


def test_an_update_of_another_attempt_is_refused() -> None:
    async def work() -> None:
        aggregator = OpenAggregator(name="aggregator", state=state(0.0), cohort_rules=CohortRules(round_deadline_s=1))
        aggregator.begin(RoundContext(round=0, attempt=1, cohort=("a",), weights=(1.0,), num_steps=(1,)))
        await aggregator.submit(TASK, "a", state(1.0))

    with pytest.raises(StaleCall):
        run_virtual(work())


# -- a run -------------------------------------------------------------------------------------------------------------


def virtually(faults: Sequence[Fault], **more: Any) -> Result:
    config = check_config(settings(**more))
    return run_virtual(run(build(config), FaultyCluster(LocalCluster(), faults)))


FORGETFUL = {"rounds": 3, "batch_size": 16, "optimizer": {"lr": 0.1}}
SLOW = Fault(party="owner-1", verb="run_round", at_call=2, kind="delay", delay_s=100.0)


def test_a_straggler_is_left_out_of_its_round_alone() -> None:
    more = changes("fedavg", FORGETFUL, reliability={"round_deadline_s": 10})
    assert [row["num_owners"] for row in virtually([SLOW], **more).rows] == [3, 2, 3]


def test_a_straggler_whose_update_is_to_count_later_sits_out_meanwhile() -> None:
    """Nothing takes time but the straggler, so both further rounds are over before it comes."""
    more = changes("fedavg", FORGETFUL, reliability={"round_deadline_s": 10, "late": "merge"})
    assert [row["num_owners"] for row in virtually([SLOW], **more).rows] == [3, 2, 2]


def test_a_deadline_that_everybody_keeps_changes_nothing() -> None:
    found = virtually([], **changes("fedavg", FORGETFUL, reliability={"round_deadline_s": 10}))
    whole = train(**changes("fedavg", FORGETFUL))
    assert all(torch.equal(found.states["global"][key], value) for key, value in weights(whole).items())


def test_an_owner_that_dies_is_gone_on_without() -> None:
    dead = Fault(party="owner-2", verb="run_round", at_call=3, turns=1)
    more = changes("fedavg", FORGETFUL, reliability={"round_deadline_s": 10})
    assert [row["num_owners"] for row in virtually([dead], **more).rows] == [3, 3, 2]


def test_an_error_of_everybody_is_raised() -> None:
    training = {**FORGETFUL, "optimizer": {"lr": 1e200}}
    with pytest.raises(NonFiniteLoss):
        virtually([], **changes("fedavg", training, reliability={"round_deadline_s": 10}))


def test_methods_that_need_everybody_say_so() -> None:
    with pytest.raises(ConfigError, match="splitnn does not use it: a round of it waits for all owners"):
        check_config(settings(**changes("splitnn", reliability={"round_deadline_s": 10})))
