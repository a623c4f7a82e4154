"""Affinities of which some are not known, because no owner that was asked has both tasks of a pair.

Where every owner has every task, as in Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285, all are known, and a mean is
that of `mean_affinity`. Groups are chosen by affinities that are all known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isnan
from typing import ClassVar

import numpy as np

from raysplit.registry import few
from raysplit.schedulers.grouping.scores import Affinity, TaskMatrix, mean_affinity


@dataclass(frozen=True, kw_only=True)
class PartAffinity(TaskMatrix):
    """Affinities as in `Affinity`, with NaN where nobody measured."""

    may_lack: ClassVar[bool] = True


Measured = Affinity | PartAffinity


def affinities_of(tasks: Sequence[str], values: Iterable[Iterable[float]]) -> Measured:
    """Return the record of affinities: an `Affinity` where those of all pairs of different tasks are known."""
    rows = [list(row) for row in values]
    if _unknown(tasks, rows):
        return PartAffinity(tasks=tuple(tasks), values=tuple(map(tuple, rows)))
    for number, row in enumerate(rows):  # a task's affinity for itself is not used
        row[number] = 0.0 if isnan(row[number]) else row[number]
    return Affinity(tasks=tuple(tasks), values=tuple(map(tuple, rows)))


def mean_known(affinities: Iterable[Measured], tasks: Sequence[str]) -> Measured:
    """Compute for each pair of ``tasks`` the plain mean over the affinities that have it; unknown where none has."""
    records = list(affinities)
    whole = [record for record in records if isinstance(record, Affinity) and record.tasks == tuple(tasks)]
    if whole and len(whole) == len(records):
        return mean_affinity(whole)
    known: dict[tuple[str, str], list[float]] = {}
    for record in records:
        for source, row in zip(record.tasks, record.values, strict=True):
            for recipient, value in zip(record.tasks, row, strict=True):
                if not isnan(value):
                    known.setdefault((source, recipient), []).append(value)
    nan = float("nan")
    return affinities_of(
        tasks, [[float(np.mean(known.get((source, other), nan))) for other in tasks] for source in tasks]
    )


def all_known(affinities: Iterable[Measured], tasks: Sequence[str]) -> Affinity:
    """Compute `mean_known`, by which groups can be chosen. Raises ValueError where a pair of tasks is not known."""
    mean = mean_known(affinities, tasks)
    if isinstance(mean, Affinity):
        return mean
    raise ValueError(
        f"nobody has measured the affinity of {pairs_shown(unknown_pairs(mean))}, so groups cannot be scored; let an "
        f"owner have both tasks, and draw larger cohorts or measure in more rounds"
    )


def unknown_pairs(affinity: Measured) -> list[tuple[str, str]]:
    """List the pairs of different tasks of which an affinity is not known."""
    return _unknown(affinity.tasks, affinity.values)


def _unknown(tasks: Sequence[str], values: Sequence[Sequence[float]]) -> list[tuple[str, str]]:
    places = combinations(range(len(tasks)), 2)
    return [(tasks[i], tasks[j]) for i, j in places if isnan(values[i][j]) or isnan(values[j][i])]


def pairs_shown(pairs: Sequence[tuple[str, str]]) -> str:
    """Name some pairs of tasks."""
    return few(f"{one} and {other}" for one, other in pairs)
