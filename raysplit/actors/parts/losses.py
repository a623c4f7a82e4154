"""Losses by name. A loss maps (outputs, targets) of a batch to a mean over its samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from raysplit.models.classifier import losses as joint
from raysplit.models.dense.losses import task_losses
from raysplit.registry import resolve

Loss = Callable[[Any, Any], Tensor]

_NO_LABEL = -100  # of a sample that cross-entropy leaves out


def cross_entropy(logits: Any, y: Any) -> Tensor:
    """Mean cross-entropy; logits [B, C], labels [B] of any integer type. Given both by task, the sum over tasks."""
    if isinstance(logits, Tensor):
        return F.cross_entropy(logits, y.long())
    return joint.joint_loss(joint.task_losses(logits, y))


def losses_apart(loss: Loss, joined: Any, y: Any, outputs: Sequence[Any], ys: Sequence[Any]) -> list[float]:
    """The mean loss of every one of these batches, without gradients; ``joined`` and ``y`` are all of them at once.

    NaN for a batch without any label.
    """
    with torch.no_grad():
        if not (loss is cross_entropy and isinstance(joined, Tensor)):
            return loss_values([loss(output, own) for output, own in zip(outputs, ys, strict=True)])
        by_sample: list[float] = F.cross_entropy(joined, y.long(), reduction="none").tolist()
        has_label: list[bool] = (y != _NO_LABEL).tolist()
    ends = [0, *accumulate(len(own) for own in ys)]
    means = [(sum(by_sample[i:j]), sum(has_label[i:j])) for i, j in pairwise(ends)]
    return [total / count if count else math.nan for total, count in means]


def loss_values(losses: Sequence[Tensor]) -> list[float]:
    """Losses as numbers, fetched at once."""
    numbers: list[float] = torch.stack([loss.detach() for loss in losses]).tolist()
    return numbers


def mse(output: Tensor, y: Tensor) -> Tensor:
    """Mean squared error over all elements."""
    return F.mse_loss(output, y.to(output.dtype))


def task_sum(outputs: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Tensor:
    """The unweighted sum of the dense tasks' own losses; outputs and targets by the task's letter."""
    return torch.stack(list(task_losses(outputs, y).values())).sum()


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse, "task_sum": task_sum}


def resolve_loss(name: str) -> Loss:
    """A loss by name or import path. Raises ``ValueError`` where there is none."""
    return resolve("loss", name, LOSSES)


def wire_labels(y: Tensor | Mapping[str, Tensor]) -> Any:
    """Labels as they cross a link: class indices in four bytes."""
    if isinstance(y, Tensor):
        return y.to(torch.int32) if y.dtype == torch.int64 else y
    return {task: wire_labels(target) for task, target in y.items()}
