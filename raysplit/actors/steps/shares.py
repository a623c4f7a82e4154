"""The share of a batch in one mean over several: its number of targets among those of all, for each task apart.

Where samples have several targets, each has a mean of its own: a batch may have half of the classes of a step and a
tenth of its numbers, so that one share for the sum of the tasks' losses would be another mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from raysplit.actors.parts.losses import Loss, cross_entropy, num_counted
from raysplit.data.labels import NO_LABEL
from raysplit.models.classifier.fan_out import in_order
from raysplit.models.classifier.losses import task_losses
from raysplit.tasks import SeveralTasks

Counted = int | Mapping[str, int]
"""A number of targets; by task where each task has a mean of its own."""
Share = float | Mapping[str, float]
"""What the loss of a batch is multiplied by; by task where each task has a mean of its own."""


def counted_of(loss: Loss, y: Any) -> Counted:
    """Return the number of targets of a batch over which the loss, or that of each task, is a mean."""
    if isinstance(loss, SeveralTasks):
        return loss.counts(y)
    if loss is cross_entropy and not isinstance(y, Tensor):
        return {task: int((labels != NO_LABEL).sum()) for task, labels in y.items()}
    return num_counted(loss, y)


def counted_in(loss: Loss, ys: Iterable[Any]) -> Counted:
    """Return the number of targets of all batches together."""
    each = [counted_of(loss, y) for y in ys]
    if isinstance(each[0], Mapping):
        return {task: sum(own[task] for own in each if isinstance(own, Mapping)) for task in each[0]}
    return sum(own for own in each if isinstance(own, int))


def share_of(loss: Loss, y: Any, counted: Counted) -> Share:
    """Return the share of a batch in the mean over so many targets; 1 where the number is 0, which says none."""
    if isinstance(counted, Mapping):
        own = counted_of(loss, y)
        assert isinstance(own, Mapping)
        return {task: number / max(1, counted[task]) for task, number in own.items()}
    return num_counted(loss, y) / counted if counted else 1.0


def with_share(loss: Loss, outputs: Any, y: Any, share: Share) -> tuple[Tensor, Tensor]:
    """Return the mean loss of a batch, and what it adds to the mean over all batches."""
    if not isinstance(share, Mapping):
        value = loss(outputs, y)
        return value, value if share == 1.0 else value * share
    each = loss.by_task(outputs, y) if isinstance(loss, SeveralTasks) else task_losses(outputs, y)
    return in_order(each.values()), in_order([value * share[task] for task, value in each.items()])
