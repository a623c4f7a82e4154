"""Partition search: brute force over independent code, ties, sizes, and groups that overlap."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matrices import PUBLISHED, groups, matrix, random_affinity

from raysplit.schedulers.grouping import scores as regroup
from raysplit.schedulers.grouping.scores import Affinity, partition_score
from raysplit.schedulers.grouping.search import (
    best_by_enumeration,
    best_by_subsets,
    best_of_all_sizes,
    members,
    partitions,
)


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
