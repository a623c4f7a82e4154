"""Verdicts on claims: intervals, conditions, choices on validation samples."""

from __future__ import annotations

import pytest
from claims_support import claim, protocol, record, three

from raysplit.claims.claim import Condition
from raysplit.claims.records import Record
from raysplit.claims.verdict import verdicts

# -- verdicts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("these", "decision", "ours"),
    [
        ((0.71, 0.72, 0.73), "shown", "r 1: +12 ± 2.5 points (3 seeds)"),
        ((0.51, 0.50, 0.49), "refuted", "r 1: -10 ± 2.5 points (3 seeds)"),
        ((0.50, 0.60, 0.90), "not decided", None),
        ((0.71, 0.72), "not decided", None),
        ((), "not run", "–"),
    ],
)
def test_an_interval_decides_and_few_seeds_do_not(these: tuple[float, ...], decision: str, ours: str | None) -> None:
    (found,) = verdicts(protocol(), [*three("a", *these), *three("b", 0.60, 0.60, 0.60)])
    assert found.decision == decision
    assert ours is None or found.ours == ours


def test_all_conditions_or_any_must_be_shown() -> None:
    where = (claim().where[0], Condition(label="r 0", set={"partition.ratio": 0.0}))
    records = [*three("a", 0.71, 0.72, 0.73), *three("b", 0.6, 0.6, 0.6)]
    for need, decision in (("all", "not decided"), ("any", "shown")):
        (found,) = verdicts(protocol(claim(where=where, need=need)), records)
        assert [line.decision for line in found.lines] == ["shown", "not run"]
        assert found.decision == decision


def test_lower_can_be_better_and_in_percent() -> None:
    (found,) = verdicts(
        protocol(claim(better="lower", unit="percent")), [*three("a", 0.45, 0.45, 0.45), *three("b", 0.5, 0.5, 0.5)]
    )
    assert found.ours == "r 1: +10 ± 0 % (3 seeds)"


def test_the_widest_gap_is_that_of_a_round() -> None:
    records = [
        record(arm, seed, *values) for seed in range(3) for arm, values in (("a", (0.5, 0.7)), ("b", (0.2, 0.6)))
    ]
    (found,) = verdicts(protocol(claim(kind="widest", least=20)), records)
    assert found.decision == "shown"
    assert found.ours == "r 1, round 1: +30 ± 0 points (3 seeds); largest of one seed +30"


def test_rate_and_round_are_chosen_on_validation_samples() -> None:
    """A's second rate has the lowest validation loss in its first round; the test accuracies do not matter."""
    chosen = claim(at="chosen", choose=("lr",))
    records = [
        record("a", 0, 0.9, 0.8, values={"lr": 0.1}, val_loss=[0.5, 0.4]),
        record("a", 0, 0.6, 0.7, values={"lr": 0.2}, val_loss=[0.1, 0.2]),
        record("b", 0, 0.5, 0.9, values={"lr": 0.1}, val_loss=[0.3, 0.4]),
    ]
    (found,) = verdicts(protocol(chosen), records)
    assert found.lines[0].found is not None
    assert found.lines[0].found.mean == pytest.approx(10)


def test_a_seed_is_compared_when_all_that_is_to_be_chosen_was_run() -> None:
    """With one of two cuts run, the better one may be missing; a diverged run was run."""
    chosen = protocol(claim(at="chosen", choose=("algorithm.cut",)))
    records = [record("b", 0, 0.5, val_loss=[0.3]), record("a", 0, 0.6, values={"algorithm.cut": 1}, val_loss=[0.3])]
    assert verdicts(chosen, records)[0].decision == "not run"
    dead = Record(
        values={"arm": "a", "partition.ratio": 1.0, "algorithm.cut": 3, "seed": 0},
        digest="",
        columns={},
        cpu_s=1.0,
        versions={},
        failed="the loss is nan",
    )
    (found,) = verdicts(chosen, [*records, dead])
    assert found.ours == "r 1: +10 points (1 seed) (left out: 1 diverged run)"


def test_equal_arms_are_equal_to_the_last_digit() -> None:
    equal = protocol(claim(kind="equal"))
    assert verdicts(equal, [record("a", 0, 0.5, 0.6), record("b", 0, 0.5, 0.6)])[0].decision == "shown"
    assert verdicts(equal, [record("a", 0, 0.5, 0.6), record("b", 0, 0.5, 0.60001)])[0].decision == "refuted"
