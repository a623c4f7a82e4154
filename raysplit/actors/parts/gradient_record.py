"""Records of gradients: the mean of those that a part was trained with, and the norms of those that arrived."""

from __future__ import annotations

from typing import Any, NamedTuple

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


_OUT_OF_PROPORTION = 1e6


class ReceivedGradient(NamedTuple):
    """A gradient that another party sent: the party, the step counted from 0 if it has one, and the norm."""

    sender: str
    step: int | None
    norm: float


class ReceivedGradients:
    """The smallest and the largest gradient that have arrived in a round, by their norms."""

    def __init__(self) -> None:
        self._smallest: float | None = None
        self._largest = ReceivedGradient("", None, 0.0)

    def note(self, sender: str, at: Any, norm: float) -> None:
        """Note a gradient of a step."""
        if norm > self._largest.norm:
            self._largest = ReceivedGradient(sender, getattr(at, "step", None), norm)
        if norm and (self._smallest is None or norm < self._smallest):
            self._smallest = norm

    def out_of_proportion(self) -> ReceivedGradient | None:
        """Return the largest gradient if it is a million times as large as the smallest one, and as one."""
        smallest, largest = self._smallest, self._largest
        if smallest is None or largest.norm < _OUT_OF_PROPORTION:
            return None
        is_alone = smallest == largest.norm
        return largest if is_alone or largest.norm > _OUT_OF_PROPORTION * smallest else None
