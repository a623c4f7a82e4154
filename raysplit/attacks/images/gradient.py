"""Gradient inversion: samples whose gradient points where the seen one does.

Zhu, Liu, Han, "Deep leakage from gradients" (2019); Geiping et al., "Inverting gradients" (2020, arXiv 2003.14053),
whose cosine and total variation are used. The first dense layer of a network gives its only sample exactly: the
gradient of a row of its weights is the input times that of the bias.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from raysplit.attacks.pace import Pace
from raysplit.seeding import torch_generator

Gradient = Callable[[Tensor], Sequence[Tensor]]
"""Map from samples [b, ...] in the unit range to the gradients of the weights that are seen, with a graph."""

_STEPS, _RATE, _DROPS = 400, 0.1, (3 / 8, 5 / 8, 7 / 8)


def gradient_inversion(
    gradient: Gradient,
    target: Sequence[Tensor],
    shape: tuple[int, ...],
    *,
    seed: int,
    pace: Pace,
    smoothness: float = 1e-3,
    steps: int = _STEPS,
) -> Tensor:
    """Return samples ``shape`` [b, ...] in the unit range whose gradient is nearest to ``target`` by cosine.

    Args:
        gradient: of the model that the attacker knows, for the labels that it knows or has guessed.
        target: the gradients that were seen.
        shape: of the batch.
        seed: of the first guess.
        pace: the time box.
        smoothness: weight of the total variation of pictures; 1e-4 for dense networks.
        steps: of Adam.
    """
    u = (0.1 * torch.randn(shape, generator=torch_generator(seed, "attack", "gradient"))).requires_grad_()
    optimizer = torch.optim.Adam([u], lr=_RATE)
    drops = {int(steps * share) for share in _DROPS}
    length = torch.stack([g.square().sum() for g in target]).sum().sqrt()
    for step in pace.steps(steps):
        if step in drops:
            for group in optimizer.param_groups:
                group["lr"] /= 10
        x = u.sigmoid()
        made = gradient(x)
        inner = torch.stack([(a * b).sum() for a, b in zip(made, target, strict=True)]).sum()
        norm = torch.stack([a.square().sum() for a in made]).sum().sqrt()
        loss = 1 - inner / (norm * length).clamp(min=1e-12) + smoothness * total_variation(x)
        (u.grad,) = torch.autograd.grad(loss, u)
        optimizer.step()
    return u.detach().sigmoid()


def total_variation(x: Tensor) -> Tensor:
    """Return the mean absolute difference of neighboring pixels [n, C, H, W]; 0 for what is no picture."""
    if x.ndim != 4:
        return x.new_zeros(())
    return x.diff(dim=-1).abs().mean() + x.diff(dim=-2).abs().mean()


def from_first_layer(weight_gradient: Tensor, bias_gradient: Tensor) -> Tensor:
    """Return the input [d] of a dense layer from the gradients of its weights [h, d] and bias [h], of one sample."""
    row = int(bias_gradient.abs().argmax())
    return weight_gradient[row] / bias_gradient[row]


def matched(x: Tensor, guess: Tensor) -> Tensor:
    """Return the guesses [b, ...] in the order that fits the samples best: a gradient has no order of samples."""
    wrong = torch.cdist(x.flatten(1).double(), guess.flatten(1).double())
    _, order = linear_sum_assignment(wrong.numpy())
    return guess[torch.from_numpy(order)]


def one_step_gradient(before: Mapping[str, Tensor], after: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return the gradient of an update that was one step of plain SGD: the difference over ``scale``, the rate times
    the number of steps."""
    return {name: (value - after[name]) / scale for name, value in before.items() if name in after}
