"""Loss functions by name. A loss maps outputs and targets of a batch to the mean over its samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from raysplit.actors.parts.own_loss import own_loss
from raysplit.data.labels import NO_LABEL
from raysplit.models.classifier import losses as joint
from raysplit.models.dense.losses import task_losses
from raysplit.registry import resolve

Loss = Callable[[Any, Any], Tensor]


def cross_entropy(logits: Any, y: Any) -> Tensor:
    """Compute the mean cross-entropy of logits [B, C] and labels [B], or the sum over tasks of mappings by task."""
    if isinstance(logits, Tensor):
        return F.cross_entropy(logits, y.long())
    return joint.joint_loss(joint.task_losses(logits, y))


def losses_apart(loss: Loss, joined: Any, y: Any, outputs: Sequence[Any], ys: Sequence[Any]) -> list[float]:
    """Compute the mean loss of each of several batches, without gradients; NaN for a batch without labels.

    Args:
        loss: the mean loss of a batch.
        joined: outputs of all batches together.
        y: targets of all batches together.
        outputs: the same outputs by batch.
        ys: the same targets by batch.
    """
    with torch.no_grad():
        if not (loss is cross_entropy and isinstance(joined, Tensor)):
            return loss_values([loss(output, own) for output, own in zip(outputs, ys, strict=True)])
        by_sample: list[float] = F.cross_entropy(joined, y.long(), reduction="none").tolist()
        has_label: list[bool] = (y != NO_LABEL).tolist()
    ends = [0, *accumulate(len(own) for own in ys)]
    means = [(sum(by_sample[i:j]), sum(has_label[i:j])) for i, j in pairwise(ends)]
    return [total / count if count else math.nan for total, count in means]


def loss_values(losses: Sequence[Tensor]) -> list[float]:
    """Convert losses to numbers, with one transfer from the device for all."""
    numbers: list[float] = torch.stack([loss.detach() for loss in losses]).tolist()
    return numbers


def mse(output: Tensor, y: Tensor) -> Tensor:
    """Compute the mean squared error over all elements."""
    return F.mse_loss(output, y.to(output.dtype))


def task_sum(outputs: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Tensor:
    """Compute the unweighted sum of the dense tasks' own losses; outputs and targets by the task's letter."""
    return torch.stack(list(task_losses(outputs, y).values())).sum()


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse, "task_sum": task_sum}


def resolve_loss(name: str) -> Loss:
    """Return a loss function by its name or import path. Raises ``ValueError`` if there is none."""
    loss = resolve("loss", name, LOSSES)
    return loss if name in LOSSES else own_loss(name, loss)


def wire_labels(y: Tensor | Mapping[str, Tensor]) -> Any:
    """Convert labels to the form in which they are sent: class indices take four bytes."""
    if isinstance(y, Tensor):
        return y.to(torch.int32) if y.dtype == torch.int64 else y
    return {task: wire_labels(target) for task, target in y.items()}
