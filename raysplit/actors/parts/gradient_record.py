"""The mean of the mini-batch gradients that a part was trained with."""

from __future__ import annotations

import torch
from torch import Tensor

from raysplit.actors.parts.part import TrainablePart
from raysplit.actors.steps.clip import trained_parameters


class GradientRecord:
    """A record that sums the gradients of every step of a part, until `close`."""

    def __init__(self, part: TrainablePart) -> None:
        self._parameters = trained_parameters(part.module)
        self._sum = torch.zeros(sum(p.numel() for p in self._parameters), dtype=torch.float64)
        self._num_steps = 0
        self._part = part
        part.before_step = self._add

    def _add(self) -> None:
        flat = [torch.zeros(p.numel()) if p.grad is None else p.grad.detach().flatten().cpu() for p in self._parameters]
        self._sum += torch.cat(flat)
        self._num_steps += 1

    def close(self) -> Tensor:
        """Stop recording, and return the mean gradient [dim]; zero for a part without weights or steps."""
        self._part.before_step = None
        return self._sum / max(1, self._num_steps)
