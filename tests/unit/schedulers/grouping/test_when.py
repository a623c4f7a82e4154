"""When the tasks are split: after a fixed number of rounds, or once their ranking is stable."""

from __future__ import annotations

import numpy as np
import pytest
from matrices import PUBLISHED, groups, matrix, random_affinity

from raysplit.schedulers.grouping.scores import Affinity
from raysplit.schedulers.grouping.when import FixedRound, StableRanking, decide, rank_correlation


def test_a_fixed_round_decides_with_all_scores_for_the_log() -> None:
    assert decide(FixedRound(num_rounds=2), [PUBLISHED], num_groups=2) is None
    decision = decide(FixedRound(num_rounds=2), [PUBLISHED, PUBLISHED], num_groups=2)
    assert decision is not None
    assert decision.num_rounds == 2
    assert decision.chosen.groups == groups("sdn kt")
    assert [len(grouping.groups) for grouping in decision.alternatives] == [1, 2, 3, 4, 5]
    assert decision.affinity == PUBLISHED
    assert decision.reason == "round 2 is done"


def test_a_stable_ranking_decides_by_itself() -> None:
    rule = StableRanking(num_rounds=2, min_correlation=0.99)
    noise = [random_affinity(5, seed) for seed in range(3)]
    settled = Affinity(tasks=noise[0].tasks, values=PUBLISHED.values)
    large = Affinity(
        tasks=noise[0].tasks, values=tuple(tuple(1000 * value for value in row) for row in PUBLISHED.values)
    )
    assert decide(rule, [settled, settled], num_groups=2) is None  # the window is not full
    assert decide(rule, noise, num_groups=2) is None
    assert decide(rule, [*noise, large], num_groups=2) is None  # one settled round does not fill the window
    decision = decide(rule, [*noise, large, large, large], num_groups=2)
    assert decision is not None
    assert decision.chosen.groups == groups("abc de")


def test_rank_correlation_by_hand() -> None:
    rising = matrix([[0.0, 1.0, 2.0], [3.0, 0.0, 4.0], [5.0, 6.0, 0.0]])
    falling = matrix([[9.0, 6.0, 5.0], [4.0, 9.0, 3.0], [2.0, 1.0, 9.0]])
    swapped = matrix([[0.0, 2.0, 1.0], [3.0, 0.0, 4.0], [5.0, 6.0, 0.0]])
    flat = matrix([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    assert rank_correlation(rising, rising) == pytest.approx(1.0)
    assert rank_correlation(rising, falling) == pytest.approx(-1.0)
    assert rank_correlation(rising, swapped) == pytest.approx(1 - 6 * 2 / (6 * 35))
    assert rank_correlation(rising, flat) == 1.0


def test_the_same_order_correlates_by_exactly_one_however_many_tasks() -> None:
    """`min_correlation` may be 1; one rounding below, and the tasks would never be split."""
    for num_tasks in range(2, 10):
        values = np.random.default_rng(num_tasks).normal(size=(num_tasks, num_tasks))
        assert rank_correlation(matrix(values.tolist()), matrix(np.exp(values).tolist())) == 1.0


def test_split_rules_are_checked_when_made() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        FixedRound(num_rounds=0)
    with pytest.raises(ValueError, match="at least 1"):
        StableRanking(num_rounds=0)
    with pytest.raises(ValueError, match="between -1 and 1"):
        StableRanking(min_correlation=2.0)
