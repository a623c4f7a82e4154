"""Search over ways to group tasks, as arithmetic on bit masks: bit i of a mask says that task i is in the group.

The score of a group is a table over masks. `best_partition` finds disjoint groups with the largest total: it tries
every set partition for up to 9 tasks (Bell(9) = 21,147), and uses a dynamic program over subsets for more,
best(mask, x) = max over groups in mask that hold its lowest task of score(group) + best(mask - group, x - 1).
`best_cover` lets groups overlap and serves each task from its best group, as in task affinity grouping (Fifty et al.,
NeurIPS 2021, arXiv 2109.04617): a facility-location problem, solved as an integer program.

Ties go to the partition that comes first when groups are sorted tuples in lexicographic order, up to `TIE`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

MAX_ENUMERATED_TASKS = 9
MAX_TASKS = 16
MAX_COVERED_TASKS = 10
TIE = 1e-12
OBJECTIVE_SCALE = 1e4  # the solver stops within 1e-6 of the optimum

Table = NDArray[np.float64]


def members(mask: int) -> tuple[int, ...]:
    """List the tasks of a group in ascending order."""
    return tuple(bit for bit in range(mask.bit_length()) if mask >> bit & 1)


def groups_with_lowest(mask: int) -> Iterator[int]:
    """Iterate over the groups within `mask` that hold its lowest task, in lexicographic order: 0, 01, 012, 02, ..."""
    lowest = mask & -mask
    yield from _extensions(lowest, mask ^ lowest)


def _extensions(group: int, rest: int) -> Iterator[int]:
    yield group
    while rest:
        lowest = rest & -rest
        rest ^= lowest
        yield from _extensions(group | lowest, rest)


def partitions(mask: int, num_groups: int) -> Iterator[tuple[int, ...]]:
    """Iterate over all partitions of `mask` into exactly `num_groups` groups, in lexicographic order."""
    if num_groups == 1:
        if mask:
            yield (mask,)
        return
    for group in groups_with_lowest(mask):
        rest = mask ^ group
        if rest.bit_count() >= num_groups - 1:
            for others in partitions(rest, num_groups - 1):
                yield (group, *others)


def best_partition(scores: Table, num_tasks: int, num_groups: int) -> tuple[int, ...]:
    """Find exactly `num_groups` disjoint groups of all tasks with the largest total of `scores[mask]`."""
    if num_tasks <= MAX_ENUMERATED_TASKS:
        return best_by_enumeration(scores, num_tasks, num_groups)
    return best_by_subsets(scores, num_tasks, num_groups)


def best_by_enumeration(scores: Table, num_tasks: int, num_groups: int) -> tuple[int, ...]:
    """Find the best partition by trying all of them."""
    best: tuple[int, ...] = ()
    best_score = -np.inf
    for candidate in partitions((1 << num_tasks) - 1, num_groups):
        score = float(sum(scores[group] for group in candidate))
        if score > best_score + TIE:
            best, best_score = candidate, score
    return best


def best_by_subsets(scores: Table, num_tasks: int, num_groups: int) -> tuple[int, ...]:
    """Find the best partition by the dynamic program over subsets, in 3^num_tasks steps for each group."""
    size = 1 << num_tasks
    order = [group for lowest in range(num_tasks) for group in groups_with_lowest(size - (1 << lowest))]
    best = np.full(size, -np.inf)  # best[mask]: the best total with the groups used so far
    best[0] = 0.0
    choices: list[NDArray[np.int64]] = []
    for _ in range(num_groups):
        better, choice = np.full(size, -np.inf), np.zeros(size, dtype=np.int64)
        for group in order:
            rest = _submasks(~group & (size - (group & -group)))
            total = scores[group] + best[rest]
            wins = total > better[rest | group] + TIE
            masks = rest[wins] | group
            better[masks], choice[masks] = total[wins], group
        best = better
        choices.append(choice)
    groups: list[int] = []
    mask = size - 1
    for choice in reversed(choices):
        groups.append(int(choice[mask]))
        mask ^= groups[-1]
    return tuple(groups)


def _submasks(mask: int) -> NDArray[np.int64]:
    """List all masks within `mask`, the empty one included."""
    found = np.zeros(1, dtype=np.int64)
    for bit in members(mask):
        found = np.concatenate([found, found | (1 << bit)])
    return found


def best_cover(gains: dict[int, dict[int, float]], num_tasks: int, num_groups: int) -> tuple[int, ...]:
    """Find at most `num_groups` groups, which may overlap, with the largest total of each task's best gain.

    `gains[mask][task]` is the gain of `task` if group `mask` serves it; groups that it omits cannot be chosen.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp  # imported late, because it takes a second
    from scipy.sparse import coo_array

    masks = list(gains)
    serving = [(number, task) for number, mask in enumerate(masks) for task in gains[mask]]
    worth = np.array([gains[masks[number]][task] for number, task in serving])
    worth *= OBJECTIVE_SCALE / max(np.abs(worth).max(), TIE)
    # unknowns: one per group (is it chosen?), then one per pair in `serving` (does the group serve the task?)
    rows = np.arange(len(serving))
    group_of, task_of = np.array(serving).T
    columns = len(masks) + rows
    serves_each_task_once = np.zeros((num_tasks, len(masks) + len(serving)))
    serves_each_task_once[task_of, columns] = 1
    few_groups = np.concatenate([np.ones(len(masks)), np.zeros(len(serving))])
    only_chosen_serve = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(rows), len(few_groups)))
    only_chosen_serve -= coo_array((np.ones(len(rows)), (rows, group_of)), shape=only_chosen_serve.shape)
    result = milp(
        np.concatenate([np.zeros(len(masks)), -worth]),
        integrality=few_groups,
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(serves_each_task_once, 1, 1),
            LinearConstraint(few_groups, 0, num_groups),
            LinearConstraint(only_chosen_serve, -np.inf, 0),
        ],
    )
    assert result.success, result.message
    used = {masks[number] for (number, _), part in zip(serving, result.x[len(masks) :], strict=True) if part > 0.5}
    return tuple(sorted(used, key=members))
