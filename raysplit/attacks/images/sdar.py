"""Pseudo-client and SDAR: a copy of the owner's part learns from the server's part, and a decoder inverts the copy.

Zhu et al., "Passive inference attacks on split learning via adversarial regularization" (NDSS 2025, arXiv 2310.10483):
at every recorded step the copy is trained on samples of the attacker's own to be useful to the server's part of that
moment, and a critic makes its smashed data look like the owner's; another critic makes what is decoded from the
owner's look like samples. Without critics it is the pseudo-client attack (Gao, Zhang, PCAT, 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysplit.attacks.networks import Batches, Scale, applied, built, critic, decoder, descend
from raysplit.attacks.pace import Pace

STEPS = 1500
_BATCH, _RATE, _DECODER_RATE = 32, 1e-3, 1e-3


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """Weights of the critics of smashed data and of samples; without both it is the pseudo-client attack."""

    of_z: float = 0.0
    of_x: float = 0.0


PSEUDO_CLIENT = Strengths()
SDAR = Strengths(of_z=0.1, of_x=1e-3)


@dataclass(frozen=True, kw_only=True)
class ServerStep:
    """What the server has at a step: the smashed data of the owner [b, ...] and its own part, which is not changed."""

    z: Tensor
    top: Callable[[Tensor], Tensor]


def sdar(
    record: Sequence[ServerStep],
    copy: nn.Module,
    z: Tensor,
    aux: Tensor,
    aux_y: Tensor,
    *,
    strengths: Strengths,
    seed: int,
    pace: Pace,
    steps: int = STEPS,
) -> Tensor:
    """Return reconstructions [n, ...] of the samples behind ``z`` [n, ...].

    Args:
        record: the steps of the training, in their order; it is gone through once, each step as often as is needed.
        copy: a part of the owner's architecture that takes samples in the unit range; it is changed.
        z: the smashed data that were seen.
        aux: samples [m, ...] of the attacker in the unit range.
        aux_y: their labels [m].
        strengths: of the critics.
        seed: of the networks' weights and batches.
        pace: the time box.
        steps: of training.
    """
    z_shape, x_shape = tuple(z.shape[1:]), tuple(aux.shape[1:])
    network = built(lambda: decoder(z_shape, x_shape), seed, "sdar", "decoder")
    of_z = built(lambda: critic(z_shape), seed, "sdar", "critic of z")
    of_x = built(lambda: critic(x_shape), seed, "sdar", "critic of x")
    for_copy = torch.optim.Adam(copy.parameters(), lr=_RATE)
    for_network = torch.optim.Adam(network.parameters(), lr=_DECODER_RATE)
    for_z = torch.optim.Adam(of_z.parameters(), lr=_RATE * max(strengths.of_z, 0.0))
    for_x = torch.optim.Adam(of_x.parameters(), lr=_DECODER_RATE * max(strengths.of_x, 0.0))
    batches = Batches(len(aux), _BATCH, seed, "sdar", "batches")
    for step in pace.steps(steps):
        at = record[step * len(record) // steps]
        rows = batches.next()
        x, y = aux[rows], aux_y[rows]
        made = copy(x)
        loss = F.cross_entropy(at.top(made), y)
        if strengths.of_z:
            loss = loss + strengths.of_z * _judged(of_z(_standard(made)), 1.0)
        descend(for_copy, loss)
        made = _standard(made.detach())
        sent = _standard(at.z)
        if strengths.of_z:
            _improved(of_z, for_z, real=sent, fake=made)
        loss = F.mse_loss(network(made), x)
        if strengths.of_x:
            shown = network(sent)
            loss = loss + strengths.of_x * _judged(of_x(shown), 1.0)
        descend(for_network, loss)
        if strengths.of_x:
            _improved(of_x, for_x, real=x, fake=shown.detach())
    return applied(network, _standard(z))


def _standard(z: Tensor) -> Tensor:
    # each side by its own mean and deviation: the copy's smashed data drift in scale, and a decoder of them would not
    # know the owner's
    return Scale.of(z)(z)


def _judged(logits: Tensor, wanted: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, wanted))


def _improved(judge: nn.Module, optimizer: torch.optim.Optimizer, *, real: Tensor, fake: Tensor) -> None:
    descend(optimizer, _judged(judge(real), 1.0) + _judged(judge(fake), 0.0))
