"""A bound for reconstructions from the derivative of the owner's part, which needs no training.

Of ``f(x) + N(0, sigma^2)`` the Fisher information about the d numbers of ``x`` is ``J'J / sigma^2`` with the derivative
J of the part (Maeng et al., dFIL, 2022, arXiv 2209.10119). With dFIL = tr(J'J) / (sigma^2 d) and an isotropic prior of
variance s^2, van Trees' inequality bounds the normalized error of every attacker from below:

    nmse >= fisher_bound = 1 / (1 + s^2 dFIL)

Without noise the bound would be 0 for every part, so a *reference noise* belongs to the measure: sigma = rho times the
standard deviation of z. It orders cuts as trained decoders do. It is no guarantee: pictures are far from an isotropic
prior, and a trained decoder can be somewhat below it.

tr(J'J) is the mean of |J'v|^2 over vectors v of random signs (Hutchinson): one backward pass of a batch for each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from raysplit.seeding import torch_generator

_PROBES = 8


@dataclass(frozen=True, kw_only=True)
class FisherBound:
    """What the derivative of a part tells of reconstructions.

    Attributes:
        fisher_bound: lower bound of the normalized error, from 0 to 1; 1 is nothing to learn.
        dfil: Fisher information for each input number.
        sigma: standard deviation of the noise.
        rho: that noise in proportion to the standard deviation of z; None where the noise was given.
    """

    fisher_bound: float
    dfil: float
    sigma: float
    rho: float | None

    @property
    def leak_fisher(self) -> float:
        """One minus the bound: 0 is nothing to learn."""
        return 1 - self.fisher_bound


def fisher_bound(
    part: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    seed: int,
    rho: float = 1.0,
    sigma: float | None = None,
    probes: int = _PROBES,
) -> FisherBound:
    """Bound the error of reconstructing rows ``x`` [n, ...] from a part's outputs with noise.

    Args:
        part: maps rows to smashed data [n, ...], each row by itself; it has derivatives.
        x: rows in the unit range.
        seed: of the random signs.
        rho: noise in proportion to the standard deviation of the outputs.
        sigma: the noise itself, where a defence adds some; takes the place of ``rho``.
        probes: vectors of random signs.
    """
    with torch.no_grad():
        spread = float(part(x).double().std()) if sigma is None else 0.0
    noise = rho * spread if sigma is None else sigma
    d, variance = x[0].numel(), float(x.double().var(dim=0).mean())
    trace = trace_of_squares(part, x, seed=seed, probes=probes)
    if noise == 0:  # outputs that do not change tell nothing, and others everything
        bound = 1.0 if trace == 0 else 0.0
        return FisherBound(fisher_bound=bound, dfil=0.0 if trace == 0 else torch.inf, sigma=0.0, rho=rho)
    dfil = trace / (noise**2 * d)
    return FisherBound(
        fisher_bound=1 / (1 + variance * dfil), dfil=dfil, sigma=noise, rho=rho if sigma is None else None
    )


def trace_of_squares(part: Callable[[Tensor], Tensor], x: Tensor, *, seed: int, probes: int = _PROBES) -> float:
    """Return tr(J'J) of a part, the mean over rows ``x`` [n, ...] and random signs."""
    gen = torch_generator(seed, "fisher")
    rows = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        z = part(rows)
    if not z.requires_grad:
        return 0.0
    total = 0.0
    for _ in range(probes):
        signs = torch.randint(2, z.shape, generator=gen).to(z.dtype) * 2 - 1
        (back,) = torch.autograd.grad(z, rows, signs, retain_graph=True)
        total += float(back.double().square().sum()) / len(rows)
    return total / probes
