"""The rules by which a multi-task classifier is trained on one machine.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982): the joint loss is the plain sum of the tasks' mean
cross-entropies; AdamW with weight decay a hundredth of the learning rate; the rate falls tenfold every half of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

DECAY_PER_RATE = 0.01


def learning_rate(epoch: int, max_epochs: int, base: float) -> float:
    """The rate in epoch 0, 1, ..., max_epochs - 1: base * 0.1 ** (epoch // (max_epochs // 2)).

    An odd run longer than one epoch therefore spends its last epoch at a hundredth. Raises ValueError outside the run.
    """
    if not 0 <= epoch < max_epochs:
        raise ValueError(f"epoch {epoch} is outside a run of {max_epochs} epochs; count from 0")
    return base * 0.1 ** (epoch // max(1, max_epochs // 2))


def joint_optimizer(parameters: Iterable[nn.Parameter], base_rate: float) -> torch.optim.AdamW:
    """AdamW over the parameters that learn, with weight decay 0.01 * base_rate and the usual betas."""
    learning = [p for p in parameters if p.requires_grad]
    return torch.optim.AdamW(learning, lr=base_rate, weight_decay=DECAY_PER_RATE * base_rate)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def task_losses(logits: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Mean cross-entropy of each answered task; logits [B, K_task], y [B]."""
    return {task: nn.functional.cross_entropy(values, y[task]) for task, values in logits.items()}


def joint_loss(losses: Mapping[str, Tensor], weights: Mapping[str, float] | None = None) -> Tensor:
    """The sum over tasks, in their order; with `weights`, the weighted sum."""
    terms = [loss if weights is None else weights[task] * loss for task, loss in losses.items()]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


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
