"""Partition search: published numbers, a hand example, brute force over independent code, and when to split."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysplit.schedulers.grouping import scores as regroup
from raysplit.schedulers.grouping.scores import Affinity, PairLosses, partition_score
from raysplit.schedulers.grouping.search import (
    best_by_enumeration,
    best_by_subsets,
    best_of_all_sizes,
    members,
    partitions,
)
from raysplit.schedulers.grouping.when import FixedRound, StableRanking, decide, rank_correlation

RECEIVED = {  # published with task affinity grouping for Taskonomy: recipient -> source -> affinity
    "s": {"d": 0.115374, "n": 0.048910, "k": 0.004547, "t": 0.008776},
    "d": {"s": 0.413559, "n": 0.291415, "k": 0.013537, "t": 0.073957},
    "n": {"s": 0.139824, "d": 0.220962, "k": 0.010494, "t": 0.076460},
    "k": {"s": 0.021099, "d": 0.013366, "n": 0.010729, "t": 0.689736},
    "t": {"s": 0.056692, "d": 0.036683, "n": 0.036007, "k": 0.303721},
}
PUBLISHED = Affinity(
    tasks=tuple("sdnkt"),
    values=tuple(tuple(RECEIVED[recipient].get(source, 0.0) for recipient in "sdnkt") for source in "sdnkt"),
)
PAIRS = PairLosses(
    tasks=tuple("sdntk"),
    values=(
        (0.0509, 0.0528, 0.0471, 0.0606, 0.0655),
        (0.2636, 0.2616, 0.2551, 0.2675, 0.2674),
        (0.1004, 0.1002, 0.0975, 0.1082, 0.1110),
        (0.0287, 0.0423, 0.0310, 0.0337, 0.0232),
        (0.0972, 0.1068, 0.0568, 0.0933, 0.0910),
    ),
)
HAND = Affinity(
    tasks=("1", "2", "3"),
    values=((0.158333, 0.140244, -0.175), (0.188, 0.166829, -0.212), (-0.175, -0.152439, 0.158333)),
)


def groups(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(group) for group in text.split())


def matrix(values: list[list[float]]) -> Affinity:
    return Affinity(tasks=tuple("abcdefghijklmnop"[: len(values)]), values=tuple(map(tuple, values)))


def random_affinity(size: int, seed: int) -> Affinity:
    return matrix(np.random.default_rng(seed).normal(size=(size, size)).tolist())


def test_self_affinities_of_the_published_matrix() -> None:
    expected = {"s": 0.101098, "d": 0.147357, "n": 0.104350, "k": 0.133404, "t": 0.160254}
    assert regroup.self_affinities(PUBLISHED) == pytest.approx(expected, abs=6e-7)


@pytest.mark.parametrize(
    ("num_groups", "expected", "score"),
    [
        (1, "sdnkt", 0.129292),
        (2, "sdn kt", 0.321696),
        (3, "sd n kt", 0.325348),
        (4, "s d n kt", 0.269252),
        (5, "s d n k t", 0.129292),
    ],
)
def test_best_partition_of_the_published_matrix(num_groups: int, expected: str, score: float) -> None:
    found = regroup.exact_x(PUBLISHED, num_groups)
    assert found.groups == groups(expected)
    assert found.score == pytest.approx(score, abs=6e-7)


@pytest.mark.parametrize(("num_groups", "expected", "score"), [(2, "sd nkt", 0.218501), (3, "s dn kt", 0.321386)])
def test_runner_up_of_the_published_matrix(num_groups: int, expected: str, score: float) -> None:
    second = regroup.every_partition(PUBLISHED, num_groups)[1]
    assert second.groups == groups(expected)
    assert second.score == pytest.approx(score, abs=6e-7)


@pytest.mark.parametrize("num_groups", [3, 4, 5])
def test_at_most_x_stays_at_three_groups(num_groups: int) -> None:
    assert regroup.at_most_x(PUBLISHED, num_groups).groups == groups("sd n kt")


def test_hand_example() -> None:
    selves = {"1": -0.005439, "2": -0.009049, "3": -0.178610}
    assert regroup.self_affinities(HAND) == pytest.approx(selves, abs=1e-6)
    scores = {"123": -0.064366, "12 3": 0.049878, "13 2": -0.119683, "1 23": -0.123293, "1 2 3": -0.064366}
    for text, score in scores.items():
        assert partition_score(HAND, groups(text)) == pytest.approx(score, abs=1e-6)
    assert regroup.exact_x(HAND, 2).groups == groups("12 3")
    assert regroup.worst_exact_x(HAND, 2).groups == groups("1 23")


@pytest.mark.parametrize(
    ("num_groups", "expected", "total"),
    [
        (1, "sdntk", 0.544675),
        (2, "sdnt nk", 0.509300),
        (3, "sdn nk tk", 0.489600),
        (4, "sn dn nk tk", 0.482400),
    ],
)
def test_higher_order_approximation_of_the_published_pairs(num_groups: int, expected: str, total: float) -> None:
    found = regroup.hoa(PAIRS, num_groups)
    assert {frozenset(group) for group in found.groups} == {frozenset(group) for group in groups(expected)}
    assert found.score == pytest.approx(total, abs=1e-9)


def test_predicted_losses_are_means_over_pairs() -> None:
    assert regroup.predicted_losses(PAIRS, "sdn") == pytest.approx({"s": 0.04995, "d": 0.25935, "n": 0.1003})
    assert regroup.predicted_losses(PAIRS, "k") == {"k": 0.0910}


def brute_partitions(tasks: tuple[str, ...]) -> Iterator[list[list[str]]]:
    """All set partitions, by putting the first task into each group of a partition of the rest or alone."""
    if not tasks:
        yield []
        return
    for rest in brute_partitions(tasks[1:]):
        yield [[tasks[0]], *rest]
        for number, group in enumerate(rest):
            yield [*rest[:number], [tasks[0], *group], *rest[number + 1 :]]


def brute_score(affinity: Affinity, partition: list[list[str]]) -> float:
    """The definition, term by term."""
    value = {
        (source, recipient): affinity.values[i][j]
        for i, source in enumerate(affinity.tasks)
        for j, recipient in enumerate(affinity.tasks)
    }
    total = 0.0
    for group in partition:
        for task in group:
            if len(group) == 1:
                others = [other for other in affinity.tasks if other != task]
                both = [value[task, other] for other in others] + [value[other, task] for other in others]
                total += sum(both) / max(1, len(both))
            else:
                total += sum(value[other, task] for other in group if other != task) / (len(group) - 1)
    return total / len(affinity.tasks)


@given(size=st.integers(1, 7), seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_search_equals_brute_force(size: int, seed: int) -> None:
    affinity = random_affinity(size, seed)
    scores: dict[int, list[float]] = {}
    for partition in brute_partitions(affinity.tasks):
        scores.setdefault(len(partition), []).append(brute_score(affinity, partition))
    for num_groups in range(1, size + 1):
        exact = regroup.exact_x(affinity, num_groups)
        assert len(exact.groups) == num_groups
        assert exact.score == pytest.approx(max(scores[num_groups]), abs=1e-12)
        assert partition_score(affinity, exact.groups) == pytest.approx(exact.score, abs=1e-12)
        assert brute_score(affinity, [list(group) for group in exact.groups]) == pytest.approx(exact.score, abs=1e-12)
        at_most = regroup.at_most_x(affinity, num_groups)
        assert at_most.score == pytest.approx(max(max(scores[n]) for n in range(1, num_groups + 1)), abs=1e-12)
        assert regroup.worst_exact_x(affinity, num_groups).score == pytest.approx(min(scores[num_groups]), abs=1e-12)


@given(size=st.integers(2, 7), seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_one_group_and_singletons_score_the_mean_affinity(size: int, seed: int) -> None:
    affinity = random_affinity(size, seed)
    off = [affinity.values[i][j] for i in range(size) for j in range(size) if i != j]
    mean = sum(off) / len(off)
    assert partition_score(affinity, (affinity.tasks,)) == pytest.approx(mean, abs=1e-14)
    assert partition_score(affinity, tuple((task,) for task in affinity.tasks)) == pytest.approx(mean, abs=1e-14)


@pytest.mark.parametrize("size", [1, 4, 8])
def test_enumeration_and_subsets_agree_ties_included(size: int) -> None:
    rng = np.random.default_rng(size)
    tables = [rng.normal(size=1 << size), rng.integers(0, 3, size=1 << size).astype(float), np.zeros(1 << size)]
    for table, num_groups in itertools.product(tables, range(1, size + 1)):
        found = best_by_subsets(table, size, num_groups)
        assert found == best_by_enumeration(table, size, num_groups)
        assert len(found) == num_groups


@pytest.mark.parametrize("size", [1, 4, 8])
def test_one_search_finds_the_best_partitions_into_any_number_of_groups(size: int) -> None:
    rng = np.random.default_rng(size)
    for table in (rng.normal(size=1 << size), rng.integers(0, 3, size=1 << size).astype(float)):
        expected = [best_by_enumeration(table, size, number) for number in range(1, size + 1)]
        assert list(best_of_all_sizes(table, size, size)) == expected


@pytest.mark.parametrize("size", [13, pytest.param(16, marks=pytest.mark.slow)])
def test_a_matrix_of_many_tasks_is_searched_in_seconds(size: int) -> None:
    """Thirteen tasks were not done in 40 seconds, and 16 are allowed."""
    values = np.random.default_rng(size).normal(size=(size, size))
    affinity = Affinity(tasks=tuple(map(str, range(size))), values=tuple(map(tuple, values.tolist())))
    began = time.process_time()
    found = [regroup.exact_x(affinity, number) for number in range(1, size + 1)]
    assert time.process_time() - began < 20
    assert [len(grouping.groups) for grouping in found] == list(range(1, size + 1))


def test_more_than_the_most_tasks_are_refused() -> None:
    zeros = ((0.0,) * 17,) * 17
    with pytest.raises(ValueError, match="at most 16 tasks, got 17"):
        regroup.exact_x(Affinity(tasks=tuple(map(str, range(17))), values=zeros), 2)


def test_values_whose_sums_are_not_finite_are_refused() -> None:
    """Of affinities of 1e308 the best groups were none at all, without a word."""
    with pytest.raises(ValueError, match=r"row 'a', column 'b' is 1e\+308; it must be finite, and at most 1e\+100"):
        Affinity(tasks=("a", "b"), values=((0.0, 1e308), (1.0, 0.0)))


def test_twelve_tasks_are_served_by_the_dynamic_programme() -> None:
    """Three blocks of four tasks that help each other and hinder the others."""
    block = np.arange(12) % 3
    affinity = Affinity(
        tasks=tuple(f"task-{number}" for number in range(12)),
        values=tuple(map(tuple, np.where(block[:, None] == block, 1.0, -1.0).tolist())),
    )
    found = regroup.exact_x(affinity, 3)
    assert [[int(task[5:]) % 3 for task in group] for group in found.groups] == [[0] * 4, [1] * 4, [2] * 4]
    assert found.score == pytest.approx(1.0)


def test_partitions_come_in_lexicographic_order() -> None:
    drawn = ["0 12", "01 2", "02 1"]
    found = [" ".join("".join(map(str, members(mask))) for mask in masks) for masks in partitions(0b111, 2)]
    assert found == drawn
    counts = [len(list(partitions((1 << 5) - 1, number))) for number in range(1, 6)]
    assert counts == [1, 15, 25, 10, 1]  # Stirling numbers, Bell(5) = 52


def test_ties_go_to_the_first_partition_and_to_fewer_groups() -> None:
    constant = matrix([[0.5] * 4] * 4)
    assert regroup.exact_x(constant, 2).groups == groups("a bcd")
    assert regroup.at_most_x(constant, 4).groups == groups("abcd")


@given(size=st.integers(2, 4), num_groups=st.integers(1, 4), seed=st.integers(0, 1000))
@settings(max_examples=12, deadline=None, derandomize=True)
def test_overlapping_groups_equal_brute_force(size: int, num_groups: int, seed: int) -> None:
    affinity = random_affinity(size, seed)
    num_groups = min(num_groups, size)
    candidates = [g for length in range(2, size + 1) for g in itertools.combinations(range(size), length)]
    best = -np.inf
    for count in range(1, num_groups + 1):
        for chosen in itertools.combinations(candidates, count):
            gains = []
            for task in range(size):
                mine = [
                    sum(affinity.values[i][task] for i in g if i != task) / (len(g) - 1) for g in chosen if task in g
                ]
                gains.append(max(mine, default=-1e6))
            best = max(best, sum(gains) / size)
    assert regroup.overlap(affinity, num_groups).score == pytest.approx(best, abs=1e-9)


def test_overlap_serves_a_task_twice_when_that_is_better() -> None:
    assert regroup.overlap(PUBLISHED, 3).groups == groups("sd dn kt")
    assert regroup.overlap(matrix([[1.0]]), 1).groups == groups("a")


def test_a_new_task_joins_where_it_gains_most() -> None:
    alone = regroup.join(HAND, groups("12"), "3")
    assert (alone.groups, alone.score) == (groups("12 3"), pytest.approx(0.049878, abs=1e-6))
    assert regroup.join(HAND, groups("1 3"), "2").groups == groups("12 3")
    assert regroup.join(PUBLISHED, groups("sdn k"), "t").groups == groups("sdn kt")
    with pytest.raises(ValueError, match="exactly once"):
        regroup.join(PUBLISHED, groups("sdn k"), "x")


def test_random_groups_keep_sizes_and_every_task() -> None:
    chosen = groups("sdn kt")
    found = regroup.random_groups("sdnkt", chosen, np.random.default_rng(0))
    assert [len(group) for group in found] == [3, 2]
    assert sorted(task for group in found for task in group) == sorted("sdnkt")
    assert found == regroup.random_groups("sdnkt", chosen, np.random.default_rng(0))
    with pytest.raises(ValueError, match="exactly once"):
        regroup.random_groups("sdnkt", groups("sdn k"), np.random.default_rng(0))


@pytest.mark.parametrize("text", ["sdn kt", "sd nk t", "s dnkt", "sd n kt"])
def test_random_groups_are_never_those_to_compare_with(text: str) -> None:
    """A benchmark's random control drew the very groups that affinities had chosen, and compared them with themselves.

    All other groups of these sizes are drawn.
    """
    chosen, tasks = groups(text), "sdnkt"
    drawn = {
        frozenset(frozenset(group) for group in regroup.random_groups(tasks, chosen, np.random.default_rng(seed)))
        for seed in range(400)
    }
    sizes = sorted(map(len, chosen))
    every = {
        frozenset(frozenset(group) for group in grouping.groups)
        for grouping in regroup.every_partition(PUBLISHED, len(sizes))
        if sorted(map(len, grouping.groups)) == sizes
    }
    assert drawn == every - {frozenset(frozenset(group) for group in chosen)}


@pytest.mark.parametrize("text", ["sdnkt", "s d n k t"])
def test_a_single_partition_has_no_random_other(text: str) -> None:
    with pytest.raises(ValueError, match="none to draw"):
        regroup.random_groups("sdnkt", groups(text), np.random.default_rng(0))


def test_mean_affinity() -> None:
    mean = regroup.mean_affinity([matrix([[1.0, 2.0], [3.0, 4.0]]), matrix([[3.0, 2.0], [1.0, 0.0]])])
    assert mean.values == ((2.0, 2.0), (2.0, 2.0))
    with pytest.raises(ValueError, match="same tasks"):
        regroup.mean_affinity([])
    with pytest.raises(ValueError, match="same tasks"):
        regroup.mean_affinity([matrix([[1.0]]), PUBLISHED])


@pytest.mark.parametrize(
    ("tasks", "values", "message"),
    [
        ((), (), "at least one"),
        (("a", "a"), ((0.0, 0.0), (0.0, 0.0)), "distinct"),
        (("a", "b"), ((0.0, 0.0),), "2 rows of 2"),
        (("a", "b"), ((0.0, 0.0), (0.0,)), "2 rows of 2"),
        (("a", "b"), ((0.0, float("nan")), (0.0, 0.0)), "row 'a', column 'b' is nan"),
    ],
)
def test_a_matrix_is_checked_when_made(tasks: tuple[str, ...], values: tuple[tuple[float, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Affinity(tasks=tasks, values=values)


@pytest.mark.parametrize("num_groups", [0, 6])
def test_the_number_of_groups_is_checked(num_groups: int) -> None:
    for search in (regroup.exact_x, regroup.at_most_x, regroup.overlap, regroup.every_partition):
        with pytest.raises(ValueError, match=f"between 1 and the number of tasks, 5, got {num_groups}"):
            search(PUBLISHED, num_groups)
    with pytest.raises(ValueError, match="at most 9 tasks, got 10"):
        regroup.every_partition(random_affinity(10, 0), 2)
    with pytest.raises(ValueError, match="exactly once"):
        partition_score(PUBLISHED, groups("sd nk"))


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
