"""UnSplit: samples and a copy of the owner's part are searched in turns, without any data.

Erdoğan, Küpçü, Çiçek, "UnSplit" (2022, arXiv 2108.09033). The attacker has the architecture (K1), and with raysplit's
public seed also the initial weights (K2). A perfect fit with a bad picture is its normal failure: another scale or sign
of the weights explains the same smashed data.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysplit.attacks.networks import descend
from raysplit.attacks.pace import Pace

_ROUNDS, _STEPS, _SMOOTH, _SMALL = 40, 25, 0.01, 0.01


def unsplit(z: Tensor, clone: nn.Module, shape: tuple[int, ...], *, pace: Pace) -> tuple[Tensor, float]:
    """Return reconstructions [n, ...] of the samples behind ``z`` [n, ...], and how well their smashed data fit.

    Args:
        z: the smashed data that were seen.
        clone: a part of the same architecture that takes samples in the unit range; it is changed.
        shape: of one sample.
        pace: the time box.
    """
    x = torch.full((len(z), *shape), 0.5, requires_grad=True)
    for_x = torch.optim.Adam([x], lr=1e-2)
    for_clone = torch.optim.Adam(clone.parameters(), lr=1e-3)
    in_turn = _STEPS * 2
    for step in pace.steps(_ROUNDS * in_turn):
        error = F.mse_loss(clone(x), z)
        if step % in_turn < _STEPS:
            smooth = _squared_variation(x) if len(shape) == 3 else x.new_zeros(())
            (x.grad,) = torch.autograd.grad(error + _SMOOTH * smooth + _SMALL * (x - 0.5).square().mean(), x)
            for_x.step()
            x.data.clamp_(0, 1)
        else:
            descend(for_clone, error)
    with torch.no_grad():
        fit = float(F.mse_loss(clone(x), z) / z.var().clamp(min=1e-12))
    return x.detach(), fit


def _squared_variation(x: Tensor) -> Tensor:
    return x.diff(dim=-1).square().mean() + x.diff(dim=-2).square().mean()
