"""Owners that learn some of the tasks alone: their samples have no target for the others."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from raysplit.data.labels import NO_LABEL
from raysplit.data.partition.by_label import Indices
from raysplit.data.samples import DataSet, Samples


def with_own_tasks(
    data: DataSet,
    tasks: Sequence[Collection[str]],
    missing: Mapping[str, float],
    train: Sequence[Indices],
    tests: Sequence[Indices] | None,
) -> DataSet:
    """Return data in which the samples of each owner have targets of its own tasks alone.

    Args:
        data: data with several targets.
        tasks: names of the tasks of each owner.
        missing: the value of a target that is missing, by task (`missing_value`).
        train: the indices of each owner's training samples.
        tests: the indices of each owner's test samples; None where all are each owner's, which are left as they are.
    """
    own = replace(data, train=_masked(data.train, tasks, missing, train))
    return own if tests is None else replace(own, test=_masked(data.test, tasks, missing, tests))


def of_tasks(samples: Samples, tasks: Collection[str], missing: Mapping[str, float]) -> Samples:
    """Return samples with targets of some tasks alone."""
    return _masked(samples, [tasks], missing, [torch.arange(len(samples)).numpy()])


def missing_value(ignore_index: int | None) -> float:
    """Return the value of a target that is missing: the class that a task does not count, or NaN where it has none."""
    return math.nan if ignore_index is None else ignore_index


def _masked(
    samples: Samples, tasks: Sequence[Collection[str]], missing: Mapping[str, float], rows: Sequence[Indices]
) -> Samples:
    assert not isinstance(samples.y, Tensor)
    y = {}
    for name, targets in samples.y.items():
        without = [torch.from_numpy(own) for own, learned in zip(rows, tasks, strict=True) if name not in learned]
        value = missing.get(name, NO_LABEL)
        y[name] = targets
        if without and sum(map(len, without)):
            y[name] = (targets.float() if math.isnan(value) else targets.long()).clone()
            y[name][torch.cat(without)] = value
    return replace(samples, y=y)
