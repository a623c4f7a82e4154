"""Losses of a multi-task classifier.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982): the joint loss is the plain sum of the tasks' mean
cross-entropies. Every picture has one label per task, so micro-averaged F1 is accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from raysplit.models.classifier.heads import in_order


def task_losses(logits: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean cross-entropy of each task in `logits`, from logits [B, K_task] and labels [B]."""
    return {task: nn.functional.cross_entropy(values, y[task].long()) for task, values in logits.items()}


def joint_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """Sum the losses of the tasks in their order."""
    return in_order(losses.values())
