"""The gradient of the mean loss over all samples of an owner."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.data.inputs import feed
from raysplit.tasks import Task


def whole_gradient(
    model: nn.Module, names: Collection[str], batches: Callable[[], Iterable[Any]], loss: Callable[[Any, Any], Tensor]
) -> list[Tensor]:
    """Compute the gradient of the mean loss over all batches for the parameters with these names, flat, in their order.

    Batch norm uses batch statistics; dropout is off.
    """
    for dropout in [m for m in model.modules() if isinstance(m, torch.nn.modules.dropout._DropoutNd)]:
        dropout.p = 0.0

    def size(batch: Any) -> int:
        return loss.count(batch.y) if isinstance(loss, Task) else len(batch)

    total = max(1, sum(size(batch) for batch in batches()))
    for batch in batches():
        value = loss(feed(model, batch.x), batch.y) * (size(batch) / total)
        value.backward()  # type: ignore[no-untyped-call]
    wanted = [p for name, p in model.named_parameters() if name in names]
    return [p.grad.flatten() if p.grad is not None else torch.zeros(p.numel()) for p in wanted]
