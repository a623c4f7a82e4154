"""Losses and measures of a multi-task classifier.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982): the joint loss is the plain sum of the tasks' mean
cross-entropies. Every picture has one label per task, so micro-averaged F1 is accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from raysplit.models.classifier.heads import in_order


def task_losses(logits: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mean cross-entropy of each answered task; logits [B, K_task], y [B] of any integer type."""
    return {task: nn.functional.cross_entropy(values, y[task].long()) for task, values in logits.items()}


def joint_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """The sum over tasks, in their order."""
    return in_order(losses.values())


def accuracy(logits: Tensor, y: Tensor) -> float:
    """Share of right answers among logits [B, K] for labels y [B]."""
    return (logits.argmax(1) == y).double().mean().item()


def micro_f1(logits: Tensor, y: Tensor) -> float:
    """F1 from true positives, false positives and false negatives summed over the classes."""
    num_classes = logits.shape[1]
    said = nn.functional.one_hot(logits.argmax(1), num_classes).bool()
    true = nn.functional.one_hot(y, num_classes).bool()
    hits = (said & true).sum().item()
    false_alarms, misses = (said & ~true).sum().item(), (true & ~said).sum().item()
    return 2 * hits / (2 * hits + false_alarms + misses)
