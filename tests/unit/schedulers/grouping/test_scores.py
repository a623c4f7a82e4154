"""Scores of groups: published numbers, a hand example, new tasks and random groups."""

from __future__ import annotations

import numpy as np
import pytest
from matrices import PUBLISHED, groups, matrix, random_affinity

from raysplit.schedulers.grouping import scores as regroup
from raysplit.schedulers.grouping.scores import Affinity, PairLosses, partition_score

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
