"""The gradient of the mean loss over all samples of an owner."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.actors.parts.losses import Loss
from raysplit.actors.steps.shares import counted_in, share_of, with_share
from raysplit.data.inputs import feed


def whole_gradient(
    model: nn.Module, names: Collection[str], batches: Callable[[], Iterable[Any]], loss: Loss
) -> list[Tensor]:
    """Compute the gradient of the mean loss over all batches for the parameters with these names, flat, in their order.

    Batch norm uses batch statistics; dropout is off.
    """
    for dropout in [m for m in model.modules() if isinstance(m, torch.nn.modules.dropout._DropoutNd)]:
        dropout.p = 0.0
    total = counted_in(loss, (batch.y for batch in batches()))
    for batch in batches():
        _, value = with_share(loss, feed(model, batch.x), batch.y, share_of(loss, batch.y, total))
        torch.autograd.backward(value)
    wanted = [p for name, p in model.named_parameters() if name in names]
    return [p.grad.flatten() if p.grad is not None else torch.zeros(p.numel()) for p in wanted]
