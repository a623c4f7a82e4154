"""Inverse network: a decoder that is trained on samples of one's own and applied to the smashed data that were seen.

The attacker has the owner's part, with its present weights or with its initial ones, and samples of the same law
without labels. The decoder is trained on what the part *and its defences* make of them: an attacker knows how values
are changed before they leave, and a decoder that does not would take every noise for protection.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from raysplit.attacks.networks import Batches, Encode, Scale, applied, built, decoder, descend
from raysplit.attacks.pace import Pace

_RATE = 1e-3


def plan_of(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the steps and the batch size for samples of this shape."""
    side = max(shape[1:]) if len(shape) == 3 else 0
    if side <= 12:
        return 600, 64
    return (400, 64) if side <= 28 else (250, 32)


def inverse(encode: Encode, z: Tensor, aux: Tensor, *, seed: int, pace: Pace, steps: int | None = None) -> Tensor:
    """Return reconstructions [n, ...] of the samples behind ``z`` [n, ...].

    Args:
        encode: what the attacker takes the owner for: its part and its defences.
        z: the smashed data that were seen.
        aux: samples [m, ...] of the attacker in the unit range.
        seed: of the decoder's weights and batches.
        pace: the time box.
        steps: of training; None takes those for the size of the samples.
    """
    planned, size = plan_of(tuple(aux.shape[1:]))
    with torch.no_grad():
        scale = Scale.of(encode(aux[:256]))
    network = built(lambda: decoder(tuple(z.shape[1:]), tuple(aux.shape[1:])), seed, "inverse")
    optimizer = torch.optim.Adam(network.parameters(), lr=_RATE)
    batches = Batches(len(aux), size, seed, "inverse", "batches")
    for _ in pace.steps(steps or planned):
        x = aux[batches.next()]
        with torch.no_grad():
            seen = scale(encode(x))
        loss = F.mse_loss(network(seen), x)
        descend(optimizer, loss)
    return applied(network, scale(z))
