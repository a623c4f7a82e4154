"""Targets of samples: checked by the task, and the statistic that its baseline needs of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from torch import Tensor

from raysplit.data.inputs import Values
from raysplit.data.samples import Samples
from raysplit.tasks import Task, inferred_kind
from raysplit.tasks.task import Sums

_ROWS = 4_096  # read at a time


def targets_of(samples: Samples) -> Iterator[Values]:
    """Yield the targets of all samples in order, some at a time."""
    for start in range(0, len(samples), _ROWS):
        yield samples.take(range(start, min(start + _ROWS, len(samples)))).y


def kind_of(samples: Samples) -> str | None:
    """Return the kind of task that the targets of samples say by their type and shape; None where it has to be said."""
    return inferred_kind(samples.take([0]).y) if len(samples) else None


def labels_of(samples: Samples, kinds: Mapping[str, str]) -> npt.NDArray[np.int64]:
    """Return the labels that a partition goes by: those of the first task with classes, or 0 where there are none.

    ``kinds`` are the kinds of the tasks of several targets, where they are said.
    """
    for name, y in {"y": samples.y}.items() if isinstance(samples.y, Tensor) else samples.y.items():
        is_label = y.ndim == 1 and not y.is_floating_point() and name not in samples.ragged
        if is_label and kinds.get(name, "classification") == "classification":
            return np.asarray(y.numpy())
    return np.zeros(len(samples), np.int64)


def check_targets(task: Task, samples: Samples, whose: str) -> None:
    """Raise ``ValueError``, with the row and the rule, for targets that are not of the task."""
    for number, y in enumerate(targets_of(samples)):
        task.check(y, whose, first_row=number * _ROWS)


def statistic_of(task: Task, shards: Sequence[Samples]) -> Sums:
    """Return the statistic of the targets of all owners, each owner's merged in their order."""
    own = [task.merged([task.statistic(y) for y in targets_of(shard)]) for shard in shards if len(shard)]
    return task.merged(own)
