"""Membership inference: whether a sample was among those that a model was trained on.

Scores are larger for members: minus the loss (Yeom et al., 2018), the same less its mean under reference models that
were trained on samples of the attacker, and the margin of the right logit, which does not saturate where losses are 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysplit.attacks.networks import Batches, descend
from raysplit.attacks.pace import Pace

Predict = Callable[[Tensor], Tensor]
NUM_REFERENCES = 4
_BATCH, _RATE = 32, 1e-3


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores [n] of samples, each by one attack."""

    loss: Tensor
    margin: Tensor
    calibrated: Tensor | None


def scores(predict: Predict, x: Tensor, y: Tensor, references: Sequence[Predict] = ()) -> Scores:
    """Score samples ``x`` [n, ...] with labels [n] by the logits of a model, calibrated by reference models."""
    loss = _losses(predict, x, y)
    calibrated = None
    if references:
        calibrated = torch.stack([_losses(other, x, y) for other in references]).mean(dim=0) - loss
    with torch.no_grad():
        logits = predict(x).double()
    right = logits.gather(1, y[:, None])[:, 0]
    others = logits.scatter(1, y[:, None], -torch.inf).amax(dim=1)
    return Scores(loss=-loss, margin=right - others, calibrated=calibrated)


def reference_models(
    make: Callable[[int], nn.Module], aux: Tensor, aux_y: Tensor, *, seed: int, pace: Pace, epochs: int
) -> list[nn.Module]:
    """Train reference models, each on a random half of the attacker's samples; fewer where the time is over."""
    found = []
    for number in range(NUM_REFERENCES):
        model = make(number)
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=_RATE)
        half = Batches(len(aux), len(aux) // 2, seed, "membership", str(number)).next()
        batches = Batches(len(half), _BATCH, seed, "membership", str(number), "batches")
        for _ in pace.steps(epochs * max(1, len(half) // _BATCH)):
            rows = half[batches.next()]
            loss = F.cross_entropy(model(aux[rows]), aux_y[rows])
            descend(optimizer, loss)
        if pace.truncated:
            break
        found.append(model.eval())
    return found


def _losses(predict: Predict, x: Tensor, y: Tensor) -> Tensor:
    with torch.no_grad():
        return F.cross_entropy(predict(x).double(), y, reduction="none")
