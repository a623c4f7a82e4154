"""The cheap measures of a cut: dependence and the bound from the derivative, in seconds and without an attacker."""

from __future__ import annotations

from typing import Any

import torch

from raysplit.privacy.measures.distance_correlation import dependence
from raysplit.privacy.measures.fisher import fisher_bound
from raysplit.privacy.seen.defended import KnownNoise
from raysplit.privacy.seen.subject import Cut, Defend, Subject, Weights

FISHER_ROWS = 32
RHO = 1.0
"""The reference noise in proportion to the standard deviation of the smashed data."""


def cheap(
    subject: Subject, cut: Cut, weights: Weights, defend: Defend | None = None, noise: KnownNoise | None = None
) -> dict[str, Any]:
    """Measure a cut.

    Args:
        subject: the model and the samples.
        cut: the cut.
        weights: of the part in front of it.
        defend: what is done to the smashed data before they leave.
        noise: that of the defence; None takes the reference noise.
    """
    x = subject.samples.victims.x
    found = dependence(x, subject.encoder(cut, weights, defend)(x), subject.seed)
    part = subject.part(cut, weights)
    sent = part if noise is None else lambda x: noise.clipped(part(x))
    rho, sigma = (RHO, None) if noise is None else (noise.rho, noise.sigma)
    with torch.enable_grad():
        bound = fisher_bound(sent, x[:FISHER_ROWS], seed=subject.seed, rho=rho, sigma=sigma)
    return {
        "dcor2_unbiased": found.dcor2_unbiased,
        "dcor_biased": found.dcor_biased,
        "p_value": found.p_value,
        "rows": found.rows,
        "fisher_bound": bound.fisher_bound,
        "leak_fisher": bound.leak_fisher,
        "rho": bound.rho,
        "sigma": bound.sigma,
    }
