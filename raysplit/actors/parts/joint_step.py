"""One step of a shared part on the batches of many owners: the giant mini-batch.

Huang, Tian, Tang, "When MiniBatch SGD Meets SplitFed Learning" (2023, arXiv 2308.11953): the smashed data of all
owners form one giant mini-batch for the server part, while every owner receives the gradient of its own mean loss.
All gradients are computed at the same weights, before the one update.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from raysplit.actors.parts.leaves import Tensors, as_tuple, gradients, leaves, untuple
from raysplit.actors.parts.losses import Loss, loss_values, losses_apart, num_counted
from raysplit.actors.parts.part import TrainablePart, on_device
from raysplit.actors.parts.stage import require_finite
from raysplit.actors.records import StepId
from raysplit.cluster.arriving.forms import are_finite
from raysplit.models.cutting.dropout import dropout_stream
from raysplit.tasks import Task
from raysplit.tasks.outputs import as_tensors

ServerForward = Literal["concat", "grad_avg"]
GradSource = Literal["joint", "per_client"]
ClientGradScale = Literal["per_client_mean", "giant"]
Reduction = Literal["sample_mean", "client_mean", "client_sum"]


@dataclass(frozen=True, kw_only=True)
class JointRule:
    """The computation of a joint step.

    Attributes:
        server_forward: ``concat`` is one pass over all rows; ``grad_avg`` is one pass per owner, with gradients
            averaged. They differ only if the shared part has batch norm, by its batch statistics.
        grad_source: source of the owners' gradients: the ``joint`` pass, or ``per_client``, a second pass per owner
            with batch statistics of its own rows.
        client_grad_scale: ``per_client_mean`` sends d(own mean loss)/dz; ``giant`` sends d(giant loss)/dz, smaller
            by the owner's share of the counted elements.
        reduction: the loss of the shared part: the mean over all counted elements (labels, pixels, tokens), the mean
            of the owners' mean losses, or their sum.
    """

    server_forward: ServerForward = "concat"
    grad_source: GradSource = "joint"
    client_grad_scale: ClientGradScale = "per_client_mean"
    reduction: Reduction = "sample_mean"


@dataclass(frozen=True, kw_only=True)
class JointResult:
    """The result of a joint step, before the update.

    Attributes:
        losses: the mean loss of each owner, in the order given.
        gradients: the gradient of each owner's smashed data.
        mass: the number of counted elements, each with the weight of its row.
    """

    losses: tuple[float, ...]
    gradients: tuple[Tensors, ...]
    mass: float

    def require_finite(self, step_ids: Sequence[StepId], zs: Sequence[Tensors]) -> None:
        """Raise `NonFiniteLoss` if a loss is not finite, first for an owner whose smashed data are not finite."""
        if not all(math.isfinite(loss) for loss in self.losses):
            by_blame = sorted(zip(step_ids, self.losses, zs, strict=True), key=lambda row: are_finite(row[2]))
            for step_id, loss, _ in by_blame:
                require_finite(step_id, loss)


def joint_gradients(
    part: TrainablePart,
    zs: Sequence[Tensors],
    ys: Sequence[Any],
    loss: Loss,
    rule: JointRule,
    *,
    stream: int,
    row_weights: Sequence[float] = (),
) -> JointResult:
    """Accumulate the joint gradient in the part, without a step, and return the owners' losses and gradients.

    Args:
        part: the shared part.
        zs: smashed data per owner, each a tensor [b_n, ...] or a tuple of them.
        ys: labels of the same rows.
        loss: mean loss of a batch.
        rule: switches of the computation.
        stream: seed of the dropout masks in the shared part.
        row_weights: the weight of each row of an owner in the mean over all rows; by default all rows weigh the same.
    """
    module = part.module
    part.set_mode()
    rows = [len(as_tuple(z)[0]) for z in zs]
    counts = [num_counted(loss, y) for y in ys]
    masses = [count * weight for count, weight in zip(counts, row_weights or [1.0] * len(rows), strict=True)]
    total = sum(masses)
    weights = [mass / (total or 1) for mass in masses] if rule.reduction == "sample_mean" else [1.0] * len(rows)
    alike = len(set(row_weights)) <= 1
    ys = [on_device(y, part.device) for y in ys]
    one_mean = rule.reduction == "sample_mean" and rule.server_forward == "concat" and alike
    with dropout_stream(stream):
        if rule.server_forward == "grad_avg":
            inputs = [leaves(z, part.device) for z in zs]
            outputs: list[Any] = [part.passes.widened(_plain(part.run(*z), loss)) for z in inputs]
        else:
            columns = zip(*(as_tuple(z) for z in zs), strict=True)
            inputs = [leaves(tuple(_cat(column) for column in columns), part.device)]
            joined = part.passes.widened(_plain(part.run(*inputs[0]), loss))
            outputs = _split(joined, rows)
    if one_mean:  # one mean over all rows, bit for bit as centralized training; own losses are only reported
        y = _cat(ys)
        target, losses = loss(joined, y), losses_apart(loss, joined, y, outputs, ys)
    else:
        means = [loss(output, y) for output, y in zip(outputs, ys, strict=True)]
        target = torch.stack([w * mean for w, mean in zip(weights, means, strict=True)]).sum()
        losses = loss_values(means)
    with dropout_stream(stream), part.passes.backward(module):
        torch.autograd.backward(target)
    if rule.reduction == "client_mean":
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(len(zs))
    if not part.input_gradients:  # nothing is trained in front
        sent: list[Tensors] = [()] * len(zs)
    elif rule.grad_source == "per_client":
        sent = _own_gradients(part, zs, ys, loss, stream=stream)
        if rule.client_grad_scale == "giant":
            sent = [_scaled(g, w) for g, w in zip(sent, weights, strict=True)]
    else:
        sent = _split(gradients(inputs[0]), rows) if len(inputs) == 1 else [gradients(z) for z in inputs]
        if rule.client_grad_scale == "per_client_mean":
            sent = [_scaled(g, 1.0 / w if w else 0.0) for g, w in zip(sent, weights, strict=True)]
    return JointResult(losses=tuple(losses), gradients=tuple(sent), mass=total)


def _own_gradients(
    part: TrainablePart, zs: Sequence[Tensors], ys: Sequence[Any], loss: Loss, *, stream: int
) -> list[Tensors]:
    """Compute d(own mean loss)/dz in a pass per owner; the part's gradients and running statistics do not change."""
    buffers = {name: buffer.clone() for name, buffer in part.module.named_buffers()}
    sent: list[Tensors] = []
    for z, y in zip(zs, ys, strict=True):
        own = leaves(z, part.device)
        with dropout_stream(stream):
            value = loss(part.passes.widened(part.run(*own)), y)
            torch.autograd.grad(value, [v for v in own if v.requires_grad], allow_unused=True)
        sent.append(gradients(own))
    for name, buffer in part.module.named_buffers():
        buffer.copy_(buffers[name])
    return sent


def _plain(outputs: Any, loss: Loss) -> Any:
    """Return what a model made as tensors by name, where the loss is a task, which knows the answer among them."""
    return as_tensors(outputs) if isinstance(loss, Task) else outputs


def _scaled(g: Tensors, factor: float) -> Tensors:
    return untuple(tuple(v * factor if v.is_floating_point() else v for v in as_tuple(g)))


def _split(joined: Any, rows: list[int]) -> list[Any]:
    """Divide the rows of tensors, or of the outputs of several heads by task, among the owners."""
    if isinstance(joined, Mapping):
        by_task = {task: torch.split(output, rows) for task, output in joined.items()}
        return [{task: pieces[i] for task, pieces in by_task.items()} for i in range(len(rows))]
    columns = [torch.split(column, rows) for column in as_tuple(joined)]
    return [untuple(tuple(pieces)) for pieces in zip(*columns, strict=True)]


def _cat(values: Sequence[Any]) -> Any:
    """Concatenate the rows of all values, tensors alone, by name or in tuples."""
    if len(values) == 1:  # which keeps its order in memory
        return values[0]
    if isinstance(values[0], Tensor):
        return torch.cat(list(values))
    if isinstance(values[0], dict):
        return {key: torch.cat([value[key] for value in values]) for key in values[0]}
    return tuple(torch.cat(column) for column in zip(*values, strict=True))
