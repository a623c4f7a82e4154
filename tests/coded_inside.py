"""A network with a residual block, and the same with a link inside of it, as if it were cut there."""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from raysplit.actors.records import StepId
from raysplit.cluster.contract import current_samples
from raysplit.cluster.links.coding_link import CodingLink
from raysplit.cluster.links.tensors import num_bytes
from raysplit.experiment.links import LinkOptions

OWNER, SERVER = "owner-0", "server"


class BlockNet(nn.Module):
    """Three convolutions, the last two in a residual block. Two tensors cross a cut behind ``inner`` or ``outer``."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.front = nn.Sequential(nn.Unflatten(1, (1, 6, 6)), nn.Conv2d(1, 6, 3, padding=1), nn.ReLU())
        self.inner = nn.Conv2d(6, 6, 3, padding=1)
        with torch.no_grad():  # a channel is an eighth of the one before it
            self.inner.weight *= 8.0 ** -torch.arange(6).reshape(6, 1, 1, 1)
            self.inner.bias *= 8.0 ** -torch.arange(6)
        self.outer = nn.Conv2d(6, 6, 3, padding=1)
        self.end = nn.ReLU()
        self.last = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(54, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x)
        y = self.inner(x)
        return self.last(self.end(x + self.outer(y.relu())))  # type: ignore[no-any-return]


class CodedBlockNet(BlockNet):
    """The same as a whole with a link inside, which all tensors behind ``cut`` pass when it is trained.

    Args:
        cut: ``front``, ``inner``, ``outer`` or ``end``.
        links: the ``links`` section as JSON.
        num_steps: mini-batches of a round.
    """

    def __init__(self, num_classes: int, cut: str, links: str, num_steps: int) -> None:
        super().__init__(num_classes)
        self._cut = cut
        self._link = CodingLink(LinkOptions(**json.loads(links)).link_rules())
        self._num_steps, self._steps = num_steps, count()

    def forward(self, x: Tensor) -> Tensor:
        x = self._across("front", self.front(x))[0]
        x, y = self._across("inner", x, self.inner(x))
        x, y = self._across("outer", x, self.outer(y.relu()))
        return self.last(self._across("end", self.end(x + y))[0])  # type: ignore[no-any-return]

    def _across(self, place: str, *tensors: Tensor) -> Any:
        if place != self._cut or not self.training or current_samples.get() is None:  # not in a step
            return tensors
        round, step = divmod(next(self._steps), self._num_steps)
        return _Across.apply(self._link, StepId(owner=OWNER, round=round, step=step), *tensors)


class _Across(torch.autograd.Function):
    """What a link makes of tensors on their way there, and of their gradients on their way back."""

    @staticmethod
    def forward(ctx: Any, link: CodingLink, step: StepId, *tensors: Tensor) -> Any:
        ctx.link, ctx.step = link, step
        z = link.leaving(OWNER, SERVER, tensors if len(tensors) > 1 else tensors[0], "smashed", step)
        z = link.arriving(OWNER, SERVER, z, num_bytes(z), "smashed", step)
        return tuple(each.clone() for each in (z if isinstance(z, tuple) else (z,)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # type: ignore[override]
        answer = 0.0, gradients if len(gradients) > 1 else gradients[0]  # beside the loss, as a server answers
        answer = ctx.link.leaving(SERVER, "", answer, "gradients", ctx.step)
        _, g = ctx.link.arriving(SERVER, OWNER, answer, num_bytes(answer), "gradients", ctx.step)
        return (None, None, *(g if isinstance(g, tuple) else (g,)))
