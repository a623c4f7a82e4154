"""When a round of an elastic run begins, and with whom: drawn cases, and the members as rows tell them again."""

from __future__ import annotations

import pytest

from raysplit.schedulers.elastic import (
    Begin,
    GiveUp,
    MembershipRules,
    RoundCall,
    Wait,
    change_in_words,
    decide,
    members_after,
)

RULES = MembershipRules(min_owners=2, min_places=2, wait_s=60)


def call(*owners: str, num_places: int = 2, **more: object) -> RoundCall:
    return RoundCall(owners=owners, num_places=num_places, return_s=10, **more)  # type: ignore[arg-type]


def test_a_round_begins_below_the_full_cohort_and_tells_who_came_and_left() -> None:
    assert decide(call("a", "c", "d"), ["a", "b"], RULES) == Begin(
        members=("a", "c", "d"), came=("c", "d"), left=("b",)
    )


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (call("a"), "1 owners have a place and min_owners is 2"),
        (call("a", "b", num_places=1), "1 places are up and min_places is 2"),
        (call("a", "b", missing=("aggregator has no place",)), "aggregator has no place"),
    ],
)
def test_it_waits_for_what_it_needs_and_gives_up_in_time(found: RoundCall, reason: str) -> None:
    assert decide(found, [], RULES) == Wait(reason=reason)
    late = RoundCall(**{**vars(found), "waited_s": 60.0})
    given_up = decide(late, [], RULES)
    assert isinstance(given_up, GiveUp)
    assert given_up.reason.startswith(f"no round can begin after 60 s: {reason}; offer Ray more machines")


def test_the_lost_are_waited_for_and_then_gone_on_without() -> None:
    """That they may come back is no reason to give up."""
    lost = {"awaited": ("b",)}
    assert decide(call("a", "c", **lost, waited_s=9), ["a", "b", "c"], RULES) == Wait(reason="b may come back")
    assert decide(call("a", "b", "c"), ["a", "b", "c"], RULES) == Begin(members=("a", "b", "c"))
    assert decide(call("a", "c", **lost, waited_s=10), ["a", "b", "c"], RULES) == Begin(members=("a", "c"), left=("b",))


def test_rows_tell_the_members() -> None:
    rows = [
        Begin(members=("a", "b"), came=("a", "b")).row(1),
        Begin(members=("a", "b")).row(1),
        Begin(members=("b", "c"), came=("c",), left=("a",)).row(2),
        {"round": 4},
        Begin(members=("b", "c", "a"), came=("a",)).row(3),
    ]
    assert members_after(rows) == ("b", "c", "a")
    assert members_after([]) == ()
    assert rows[2] == {"num_members": 2, "num_places": 2, "came": ["c"], "left": ["a"]}


def test_a_change_in_words_names_a_few() -> None:
    many = tuple(f"owner-{i}" for i in range(11))
    assert change_in_words(Begin(members=many, came=many, left=("x",))) == (
        "owner-0, owner-1, owner-2, owner-3, owner-4, owner-5, owner-6, owner-7 and 3 more came; x left"
    )
    assert change_in_words(Begin(members=("a",))) == "nobody came or left"
