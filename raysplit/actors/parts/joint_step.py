"""One step of a shared part on the batches of many owners at once: the giant mini-batch.

Huang, Tian, Tang, "When MiniBatch SGD Meets SplitFed Learning" (2023, arXiv 2308.11953): the smashed data of all
owners are one giant mini-batch for the server part, while every owner gets the gradient of its own mean loss.
All gradients are taken at the same weights, before the one update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from raysplit.actors.parts.losses import Loss, loss_values, losses_apart
from raysplit.actors.parts.part import Tensors, TrainablePart, as_tuple, gradients, leaves, on_device, untuple
from raysplit.models.cutting.dropout import dropout_stream

ServerForward = Literal["concat", "grad_avg"]
GradSource = Literal["joint", "per_client"]
ClientGradScale = Literal["per_client_mean", "giant"]
Reduction = Literal["sample_mean", "client_mean", "client_sum"]


@dataclass(frozen=True, kw_only=True)
class JointRule:
    """How a joint step is computed.

    Attributes:
        server_forward: ``concat`` makes one pass over all rows; ``grad_avg`` one pass per owner, gradients averaged.
            The same without batch norm in the shared part, different with it (whose statistics?).
        grad_source: ``per_client`` takes the owners' gradients from a second pass per owner (own statistics).
        client_grad_scale: ``per_client_mean`` sends d(own mean loss)/dz; ``giant`` sends d(giant loss)/dz, smaller
            by the owner's share of the rows.
        reduction: the loss of the shared part is the mean over all rows, the mean over the owners' mean losses, or
            their sum.
    """

    server_forward: ServerForward = "concat"
    grad_source: GradSource = "joint"
    client_grad_scale: ClientGradScale = "per_client_mean"
    reduction: Reduction = "sample_mean"


@dataclass(frozen=True, kw_only=True)
class JointResult:
    """Mean loss and gradient of the smashed data of each owner, in the order given."""

    losses: tuple[float, ...]
    gradients: tuple[Tensors, ...]


def joint_gradients(
    part: TrainablePart,
    zs: Sequence[Tensors],
    ys: Sequence[Any],
    loss: Loss,
    rule: JointRule,
    *,
    stream: int,
    total_rows: int | None = None,
) -> JointResult:
    """Accumulate the joint gradient in the part (not applied yet) and return what the owners need.

    Args:
        zs: smashed data per owner, each a tensor [b_n, ...] or a tuple of them.
        ys: the labels of the same rows.
        stream: seeds dropout masks in the shared part.
        total_rows: rows of the whole giant batch when this part sees only some of it; default all rows given.
    """
    module = part.module
    if not module.training:
        module.train()
    rows = [len(as_tuple(z)[0]) for z in zs]
    total = total_rows or sum(rows)
    weights = [b / total for b in rows] if rule.reduction == "sample_mean" else [1.0] * len(rows)
    ys = [on_device(y, part.device) for y in ys]
    one_mean = rule.reduction == "sample_mean" and rule.server_forward == "concat" and total == sum(rows)
    with dropout_stream(stream):
        if rule.server_forward == "grad_avg":
            inputs = [leaves(z, part.device) for z in zs]
            outputs: list[Any] = [module(*z) for z in inputs]
        else:
            columns = zip(*(as_tuple(z) for z in zs), strict=True)
            inputs = [leaves(tuple(torch.cat(column) for column in columns), part.device)]
            joined = module(*inputs[0])
            outputs = _split(joined, rows)
    if one_mean:  # as a centralised batch has it; the owners' own losses are only looked at
        y = _cat(ys)
        target, losses = loss(joined, y), losses_apart(loss, joined, y, outputs, ys)
    else:
        means = [loss(output, y) for output, y in zip(outputs, ys, strict=True)]
        target = torch.stack([w * mean for w, mean in zip(weights, means, strict=True)]).sum()
        losses = loss_values(means)
    with dropout_stream(stream):  # what is checkpointed computes its forward again
        target.backward()  # type: ignore[no-untyped-call]
    if rule.reduction == "client_mean":
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad.div_(len(zs))
    if rule.grad_source == "per_client":
        sent = _own_gradients(part, zs, ys, loss, stream=stream)
    else:
        sent = _split(gradients(inputs[0]), rows) if len(inputs) == 1 else [gradients(z) for z in inputs]
        if rule.client_grad_scale == "per_client_mean":
            sent = [_scaled(g, 1.0 / w) for g, w in zip(sent, weights, strict=True)]
    return JointResult(losses=tuple(losses), gradients=tuple(sent))


def _own_gradients(
    part: TrainablePart, zs: Sequence[Tensors], ys: Sequence[Any], loss: Loss, *, stream: int
) -> list[Tensors]:
    """d(own mean loss)/dz from a pass per owner; the part's gradients and running statistics stay as they are."""
    buffers = {name: buffer.clone() for name, buffer in part.module.named_buffers()}
    sent: list[Tensors] = []
    for z, y in zip(zs, ys, strict=True):
        own = leaves(z, part.device)
        with dropout_stream(stream):
            value = loss(part.module(*own), y)
            wanted = [v for v in own if v.requires_grad]
            for v, g in zip(wanted, torch.autograd.grad(value, wanted), strict=True):
                v.grad = g
        sent.append(gradients(own))
    for name, buffer in part.module.named_buffers():
        buffer.copy_(buffers[name])
    return sent


def _scaled(g: Tensors, factor: float) -> Tensors:
    return untuple(tuple(v * factor if v.is_floating_point() else v for v in as_tuple(g)))


def _split(joined: Tensors, rows: list[int]) -> list[Tensors]:
    columns = [torch.split(column, rows) for column in as_tuple(joined)]
    return [untuple(tuple(pieces)) for pieces in zip(*columns, strict=True)]


def _cat(values: Sequence[Any]) -> Any:
    if len(values) == 1:
        return values[0]
    if isinstance(values[0], Tensor):
        return torch.cat(list(values))
    if isinstance(values[0], dict):
        return {key: torch.cat([value[key] for value in values]) for key in values[0]}
    return tuple(torch.cat(column) for column in zip(*values, strict=True))
