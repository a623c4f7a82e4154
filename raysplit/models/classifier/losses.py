"""Losses of a multi-task classifier.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982): the joint loss is the plain sum of the tasks' mean
cross-entropies. A picture has at most one label per task, so micro-averaged F1 is accuracy. A picture without a
label for a task (`NO_LABEL`) is left out of that task's mean.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from raysplit.data.labels import NO_LABEL
from raysplit.models.classifier.heads import in_order


def task_losses(logits: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean cross-entropy of each task in `logits`, from logits [B, K_task] and labels [B].

    The mean is over the pictures with a label; without any it is 0, with a gradient of 0.
    """
    return {task: _labelled_mean(values, y[task].long()) for task, values in logits.items()}


def _labelled_mean(logits: Tensor, y: Tensor) -> Tensor:
    if bool((y == NO_LABEL).all()):
        return (logits * 0).sum()
    return nn.functional.cross_entropy(logits, y, ignore_index=NO_LABEL)


def joint_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """Sum the losses of the tasks in their order."""
    return in_order(losses.values())
