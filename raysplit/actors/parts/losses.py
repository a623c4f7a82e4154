"""Loss functions by name. A loss maps outputs and targets of a batch to the mean over its samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from itertools import accumulate, pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from raysplit.actors.parts.own_loss import own_loss
from raysplit.data.labels import NO_LABEL
from raysplit.guards.noise.labels import FlippedCrossEntropy
from raysplit.models.classifier import losses as joint
from raysplit.models.dense.losses import TASKS, task_losses
from raysplit.registry import a_function, resolve
from raysplit.tasks import Task

Loss = Callable[[Any, Any], Tensor]


def cross_entropy(logits: Any, y: Any) -> Tensor:
    """Compute the mean cross-entropy of logits [B, C] and labels [B], or the sum over tasks of mappings by task."""
    if isinstance(logits, Tensor):
        _require_single("cross_entropy", logits, y)
        if logits.ndim < 2 or y.shape != (len(logits), *logits.shape[2:]):
            raise ValueError(
                f"cross_entropy takes logits [B, C] and labels [B], and they are {list(logits.shape)} and "
                f"{list(y.shape)}; use a model with one output per class, or mse for one number per sample"
            )
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


def num_counted(loss: Loss, y: Any) -> int:
    """Return the number of elements of a batch over which the loss is a mean: samples, pixels, tokens or numbers.

    A sample without a class label is not counted; with a loss of one's own, or several targets, every sample is.
    """
    if isinstance(loss, Task):
        return loss.count(y)
    if loss is cross_entropy and isinstance(y, Tensor):
        return int((y != NO_LABEL).sum())
    return len(y if isinstance(y, Tensor) else next(iter(y.values())))


def loss_values(losses: Sequence[Tensor]) -> list[float]:
    """Convert losses to numbers, with one transfer from the device for all."""
    numbers: list[float] = torch.stack([loss.detach() for loss in losses]).tolist()
    return numbers


def mse(output: Tensor, y: Tensor) -> Tensor:
    """Compute the mean squared error over all elements; one output per sample is compared with one number each.

    Raises:
        ValueError: for outputs and targets of different shapes, which would be compared all with all.
    """
    _require_single("mse", output, y)
    if output.shape == (len(y), 1):
        output = output.reshape(y.shape) if y.ndim == 1 else output
    if output.shape != y.shape:
        raise ValueError(
            f"mse compares outputs and targets of one shape, and they are {list(output.shape)} and {list(y.shape)}; "
            f"use a model with one output per target, or cross_entropy for class labels"
        )
    return F.mse_loss(output, y.to(output.dtype))


def task_sum(outputs: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Tensor:
    """Compute the unweighted sum of the dense tasks' own losses; outputs and targets by the task's letter.

    Raises:
        ValueError: for data without dense tasks.
    """
    strange = [task for task in outputs if task not in TASKS] if isinstance(outputs, Mapping) else ["a single output"]
    if strange or isinstance(y, Tensor):
        raise ValueError(
            f"task_sum is for the dense tasks {', '.join(TASKS)}, such as those of rooms and taskonomy, and here is "
            f"{', '.join(strange) or 'a single target'}; set training.loss to cross_entropy"
        )
    return torch.stack(list(task_losses(outputs, y).values())).sum()


def _require_single(name: str, output: Any, y: Any) -> None:
    for what, value in (("outputs", output), ("targets", y)):
        if not isinstance(value, Tensor):
            raise ValueError(
                f"{name} takes one tensor of outputs and one of targets, and the {what} are {', '.join(value)}; use "
                f"cross_entropy for class labels by task, or task_sum for dense tasks"
            )


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "mse": mse, "task_sum": task_sum}


def resolve_loss(name: str | Task | FlippedCrossEntropy) -> Loss:
    """Return a loss function by its name or import path; a task is its own. Raises ``ValueError`` if there is none.

    A loss of one's own receives class labels and other whole numbers as int64, which torch's functions take, and what
    it returns is checked.
    """
    if isinstance(name, Task | FlippedCrossEntropy):
        return name
    loss: Loss = resolve("loss", name, LOSSES)
    if name in LOSSES:
        return loss
    a_function("loss", name, loss, "the model's outputs and the targets")

    @wraps(loss)
    def with_usual_types(outputs: Any, y: Any) -> Tensor:
        return loss(outputs, _usual(y))

    return own_loss(name, with_usual_types)


def _usual(y: Any) -> Any:
    if not isinstance(y, Tensor):
        return {task: _usual(target) for task, target in y.items()}
    return y if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool else y.long()


def wire_labels(y: Tensor | Mapping[str, Tensor]) -> Any:
    """Convert labels to the form in which they are sent: class indices take four bytes."""
    if isinstance(y, Tensor):
        return y.to(torch.int32) if y.dtype == torch.int64 else y
    return {task: wire_labels(target) for task, target in y.items()}
