"""Scores of groups of tasks from pairwise affinities, and the groups with the best scores.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285: with S[i][j] the affinity of source i for recipient j, a task j of a
group g gains a_g(j) = mean over the other members i of S[i][j]; a task alone gains its self-affinity, the mean of its
2n - 2 affinities with the others. A partition scores the mean gain over all tasks. `overlap` is task affinity grouping
(Fifty et al., arXiv 2109.04617), `predicted_losses` and `hoa` the higher-order approximation of Standley et al.
(arXiv 1905.07553), which predicts the loss of a task in a group as the mean of its losses in pairs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isnan
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from raysplit.registry import few, shown
from raysplit.schedulers.grouping.search import (
    MAX_COVERED_TASKS,
    MAX_ENUMERATED_TASKS,
    MAX_TASKS,
    Table,
    best_cover,
    best_of_all_sizes,
    best_partition,
    members,
    partitions,
)

MAX_VALUE = 1e100

Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class TaskMatrix:
    """A number for each ordered pair of tasks. Raises ValueError unless square, named, finite and distinct."""

    may_lack: ClassVar[bool] = False
    """Whether NaN stands for a number that is not known."""

    tasks: tuple[str, ...]
    values: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        size = len(self.tasks)
        if size == 0 or len(set(self.tasks)) != size:
            raise ValueError(f"tasks must be distinct names, at least one, got {shown(self.tasks)}")
        if len(self.values) != size or any(len(row) != size for row in self.values):
            lengths = [len(row) for row in self.values]
            raise ValueError(f"{size} tasks need {size} rows of {size} numbers, got rows of lengths {few(lengths)}")
        for task, row in zip(self.tasks, self.values, strict=True):
            for other, value in zip(self.tasks, row, strict=True):
                if not abs(value) <= MAX_VALUE and not (self.may_lack and isnan(value)):  # nor NaN
                    raise ValueError(
                        f"the value of row {shown(task)}, column {shown(other)} is {value}; it must be finite, "
                        f"and at most {MAX_VALUE:g} in size, so that sums are"
                    )


@dataclass(frozen=True, kw_only=True)
class Affinity(TaskMatrix):
    """Affinities, with sources in rows and recipients in columns; positive if a step lowers the recipient's loss."""


@dataclass(frozen=True, kw_only=True)
class PairLosses(TaskMatrix):
    """Losses of tasks (rows) trained with a partner (columns); the diagonal is the loss of the task trained alone."""


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """Groups in the tasks' order, and their score: mean gain over tasks, or for `hoa` the predicted total loss."""

    groups: Groups
    score: float


def mean_affinity(affinities: Iterable[Affinity]) -> Affinity:
    """Compute the plain mean over batches, owners or rounds. Raises ValueError for none, or for different tasks."""
    records = list(affinities)
    if not records or any(record.tasks != records[0].tasks for record in records):
        raise ValueError(f"a mean needs affinities of the same tasks, got {sorted({r.tasks for r in records})}")
    mean = np.mean([record.values for record in records], axis=0)
    return Affinity(tasks=records[0].tasks, values=tuple(map(tuple, mean.tolist())))


def self_affinities(affinity: Affinity) -> dict[str, float]:
    """Compute the gain of each task alone; 0 if it is the only task."""
    values = _off_diagonal(affinity)
    num_links = max(1, 2 * len(affinity.tasks) - 2)
    return dict(zip(affinity.tasks, ((values.sum(0) + values.sum(1)) / num_links).tolist(), strict=True))


def partition_score(affinity: Affinity, groups: Groups) -> float:
    """Compute the mean gain over all tasks. Raises ValueError unless `groups` hold every task exactly once."""
    if sorted(task for group in groups for task in group) != sorted(affinity.tasks):
        raise ValueError(f"groups must hold each of {affinity.tasks} exactly once, got {groups}")
    place = {task: 1 << number for number, task in enumerate(affinity.tasks)}
    scores = _group_scores(affinity)
    return float(sum(scores[sum(place[task] for task in group)] for group in groups)) / len(affinity.tasks)


def exact_x(affinity: Affinity, num_groups: int) -> Grouping:
    """Find the best partition into exactly `num_groups` groups."""
    _check_num_groups(affinity, num_groups)
    return _exact_of_all_sizes(affinity)[num_groups - 1]


def at_most_x(affinity: Affinity, num_groups: int) -> Grouping:
    """Find the best partition into at most `num_groups` groups; of equals, the one with fewer groups."""
    _check_num_groups(affinity, num_groups)
    candidates = _exact_of_all_sizes(affinity)[:num_groups]
    best = candidates[0]
    for candidate in candidates[1:]:
        if candidate.score > best.score + 1e-12:
            best = candidate
    return best


def every_partition(affinity: Affinity, num_groups: int) -> tuple[Grouping, ...]:
    """List all partitions into exactly `num_groups` groups, the best first; for at most 9 tasks."""
    _check_num_groups(affinity, num_groups, MAX_ENUMERATED_TASKS)
    scores, size = _group_scores(affinity), len(affinity.tasks)
    found = [
        Grouping(groups=_named(affinity.tasks, masks), score=float(sum(scores[mask] for mask in masks)) / size)
        for masks in partitions((1 << size) - 1, num_groups)
    ]
    return tuple(sorted(found, key=lambda grouping: -grouping.score))


def worst_exact_x(affinity: Affinity, num_groups: int) -> Grouping:
    """Find the partition into exactly `num_groups` groups with the lowest score, for comparison."""
    _check_num_groups(affinity, num_groups)
    worst = _best_exact(affinity, -_group_scores(affinity), num_groups)
    return Grouping(groups=worst.groups, score=-worst.score)


def join(affinity: Affinity, groups: Groups, newcomer: str) -> Grouping:
    """Add a task to the group, or to one of its own, that gives the best score; the first of equals.

    Args:
        affinity: affinities of the tasks of `groups` and the newcomer.
        groups: the present groups.
        newcomer: the task to add.
    """
    wider = [(*groups[:number], (*group, newcomer), *groups[number + 1 :]) for number, group in enumerate(groups)]
    candidates = [
        Grouping(groups=option, score=partition_score(affinity, option)) for option in [*wider, (*groups, (newcomer,))]
    ]
    return max(candidates, key=lambda candidate: candidate.score)


def random_groups(tasks: Sequence[str], chosen: Groups, rng: np.random.Generator) -> Groups:
    """Draw a partition with the group sizes of ``chosen`` among all others, for comparison with it.

    Tasks keep their order within a group. Raises ``ValueError`` where no other partition has these sizes.
    """
    sizes = [len(group) for group in chosen]
    if sorted(task for group in chosen for task in group) != sorted(tasks):
        raise ValueError(f"groups must hold each of {tuple(tasks)} exactly once, got {chosen}")
    if len(sizes) in (1, len(tasks)):
        raise ValueError(f"there is one partition of {len(tasks)} tasks into {len(sizes)} groups, and none to draw")
    while True:
        parts = np.split(rng.permutation(len(tasks)), np.cumsum(sizes)[:-1])
        drawn = tuple(tuple(tasks[number] for number in sorted(part)) for part in parts)
        if {frozenset(group) for group in drawn} != {frozenset(group) for group in chosen}:
            return drawn


def overlap(affinity: Affinity, num_groups: int) -> Grouping:
    """Find at most `num_groups` groups of two or more tasks, which may overlap; each task counts in its best group."""
    _check_num_groups(affinity, num_groups, MAX_COVERED_TASKS)
    size = len(affinity.tasks)
    if size == 1:
        return Grouping(groups=(affinity.tasks,), score=0.0)
    incoming = _off_diagonal(affinity).T  # row = recipient
    gains = {
        mask: {task: _mean_of_others(incoming, task, members(mask)) for task in members(mask)}
        for mask in range(1, 1 << size)
        if mask.bit_count() >= 2
    }
    best = _cover(affinity.tasks, gains, num_groups)
    return Grouping(groups=best.groups, score=best.score / size)


def predicted_losses(losses: PairLosses, group: Sequence[str]) -> dict[str, float]:
    """Predict the loss of each task of `group` as the mean of its losses in pairs with the other members."""
    numbers = [losses.tasks.index(task) for task in group]
    table = np.array(losses.values)
    return {losses.tasks[number]: _mean_of_others(table, number, numbers) for number in numbers}


def hoa(losses: PairLosses, num_groups: int) -> Grouping:
    """Find at most `num_groups` groups, which may overlap, with the lowest predicted total loss."""
    _check_num_groups(losses, num_groups, MAX_COVERED_TASKS)
    table = np.array(losses.values)
    gains = {
        mask: {task: -_mean_of_others(table, task, members(mask)) for task in members(mask)}
        for mask in range(1, 1 << len(losses.tasks))
    }
    best = _cover(losses.tasks, gains, num_groups)
    return Grouping(groups=best.groups, score=-best.score)


def _cover(tasks: tuple[str, ...], gains: dict[int, dict[int, float]], num_groups: int) -> Grouping:
    """Find the best groups, with their total gain as score."""
    masks = best_cover(gains, len(tasks), num_groups)
    total = sum(max(gains[mask][task] for mask in masks if task in gains[mask]) for task in range(len(tasks)))
    return Grouping(groups=_named(tasks, masks), score=total)


def _mean_of_others(table: NDArray[np.float64], task: int, group: Sequence[int]) -> float:
    """Compute the mean of row `task` over the other members; the diagonal for a task alone."""
    others = [other for other in group if other != task] or [task]
    return float(table[task, others].mean())


def _off_diagonal(affinity: Affinity) -> NDArray[np.float64]:
    values = np.array(affinity.values)
    np.fill_diagonal(values, 0.0)
    return values


def _group_scores(affinity: Affinity) -> Table:
    """Compute each group's summed gain, by mask: all affinities within it over (size - 1), or the self-affinity."""
    links = _off_diagonal(affinity)
    links = links + links.T
    size = len(affinity.tasks)
    within, num_members = np.zeros(1), np.zeros(1)
    for task in range(size):
        to_group = np.zeros(1)  # links of `task` to each group of earlier tasks
        for earlier in range(task):
            to_group = np.concatenate([to_group, to_group + links[task, earlier]])
        within = np.concatenate([within, within + to_group])
        num_members = np.concatenate([num_members, num_members + 1])
    scores = within / np.maximum(num_members - 1, 1)
    scores[1 << np.arange(size)] = list(self_affinities(affinity).values())
    return scores


@lru_cache(maxsize=1)
def _exact_of_all_sizes(affinity: Affinity) -> tuple[Grouping, ...]:
    """Return the best partitions into 1, 2, ... groups, which a single search finds."""
    scores, size = _group_scores(affinity), len(affinity.tasks)
    if size <= MAX_ENUMERATED_TASKS:
        return tuple(_best_exact(affinity, scores, number) for number in range(1, size + 1))
    return tuple(_scored(affinity, scores, masks) for masks in best_of_all_sizes(scores, size, size))


def _best_exact(affinity: Affinity, scores: Table, num_groups: int) -> Grouping:
    return _scored(affinity, scores, best_partition(scores, len(affinity.tasks), num_groups))


def _scored(affinity: Affinity, scores: Table, masks: Sequence[int]) -> Grouping:
    total = float(sum(scores[mask] for mask in masks))
    return Grouping(groups=_named(affinity.tasks, masks), score=total / len(affinity.tasks))


def _named(tasks: tuple[str, ...], masks: Iterable[int]) -> Groups:
    return tuple(tuple(tasks[number] for number in members(mask)) for mask in masks)


def _check_num_groups(matrix: TaskMatrix, num_groups: int, max_tasks: int = MAX_TASKS) -> None:
    size = len(matrix.tasks)
    if not 1 <= num_groups <= size:
        raise ValueError(f"the number of groups must be between 1 and the number of tasks, {size}, got {num_groups}")
    if size > max_tasks:
        raise ValueError(
            f"this search takes at most {max_tasks} tasks, got {size}; merge tasks that belong together first"
        )


def widened(affinity: Affinity, newcomer: str, tried: Sequence[TaskMatrix]) -> Affinity:
    """Add the newcomer's row and column to the matrix, each entry from the group in which it was measured."""
    values: Mapping[tuple[str, str], float] = {
        (source, recipient): value
        for matrix in [*tried, affinity]
        for source, row in zip(matrix.tasks, matrix.values, strict=True)
        for recipient, value in zip(matrix.tasks, row, strict=True)
    }
    tasks = (*affinity.tasks, newcomer)
    return Affinity(tasks=tasks, values=tuple(tuple(values[source, other] for other in tasks) for source in tasks))
