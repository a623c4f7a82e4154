"""Noise on the rows of a gradient that an owner sends, against whoever reads labels out of them.

* ``max_norm`` and ``marvell``: Li et al., "Label Leakage and Protection in Two-party Split Learning" (2022, ICLR, arXiv
  2102.08504). Neither promises an epsilon.
* ``average``: the mean of the batch for every row.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from raysplit.guards.noise.mechanisms import Draws, gaussian_noise


def with_max_norm(rows: Tensor, draws: Draws) -> Tensor:
    """Add noise along each row [B, q] so that the expected squared norm of every row is that of the largest."""
    norms = rows.norm(dim=1)
    ratio = torch.where(norms > 0, norms.max() / norms.clamp(min=torch.finfo(rows.dtype).tiny), torch.ones_like(norms))
    spread = torch.sqrt((ratio**2 - 1).clamp(min=0))
    return rows * (1 + spread * gaussian_noise(norms.shape, 1.0, draws))[:, None]


def averaged(rows: Tensor) -> Tensor:
    """Give every row [B, q] the mean of the batch."""
    return rows.mean(dim=0, keepdim=True).expand_as(rows).clone()


def with_marvell(rows: Tensor, labels: Tensor, error: float, draws: Draws) -> Tensor:
    """Add the least noise with which no test tells the two classes of rows [B, q] with less than this error.

    Args:
        rows: the rows of the gradient.
        labels: their labels [B], 0 or 1.
        error: smallest error of detection, the mean of both kinds, up to 0.5.
        draws: random numbers.
    """
    is_one = labels.reshape(-1) == 1
    if is_one.all() or not is_one.any():  # nothing to tell apart
        return rows
    ones, zeros = rows[is_one], rows[~is_one]
    gap = ones.mean(0) - zeros.mean(0)
    norm = float(gap.norm())
    if norm == 0:
        return rows
    share = float(is_one.double().mean())
    spreads = [_spread(part, gap / norm) for part in (zeros, ones)]
    noise = least_noise(norm, share, spreads[0], spreads[1], rows.shape[1], sum_kl_limit(error))
    made = rows.clone()
    for mask, (along, across) in zip((~is_one, is_one), noise, strict=True):
        shape = (int(mask.sum()), rows.shape[1])
        sideways = gaussian_noise(shape, math.sqrt(across), draws)
        unit = gap / norm
        sideways -= torch.outer(sideways @ unit, unit)
        made[mask] += sideways + torch.outer(gaussian_noise(shape[:1], math.sqrt(along), draws), unit)
    return made


def sum_kl_limit(error: float) -> float:
    """Return the largest sum of both divergences with which the detection error is at least ``error``."""
    return (2 - 4 * error) ** 2


def auc_bound(sum_kl: float) -> float:
    """Return the largest area under the curve of a test between laws with this sum of divergences, below 4."""
    return 0.5 + math.sqrt(sum_kl) / 2 - sum_kl / 8


def sum_kl(gap: float, zero: tuple[float, float], one: tuple[float, float], size: int) -> float:
    """Return the sum of both divergences of two normal laws whose means are ``gap`` apart along one direction.

    Each law has the variances (along, across) the gap, the latter in ``size - 1`` dimensions.
    """
    (u, v), (s, t) = zero, one
    along = (u + gap**2) / s + (s + gap**2) / u - 2
    across = (size - 1) * (v / t + t / v - 2) if size > 1 else 0.0
    return (along + across) / 2


def least_noise(
    gap: float, share: float, zeros: float, ones: float, size: int, limit: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return variances (along, across) of the noise for classes 0 and 1 with which `sum_kl` is at most ``limit``.

    The power of the noise starts at a quarter of the squared gap and grows by half until the limit is kept; within a
    power, the noise is divided between the classes, and put along the gap and across it, where it helps most.

    Args:
        gap: distance of the means.
        share: share of class 1.
        zeros, ones: mean variance of a coordinate of each class.
        size: number of coordinates.
        limit: largest sum of both divergences.
    """
    power = 0.25 * gap**2
    while True:
        found, noise = _divided(gap, share, zeros, ones, size, power)
        if found <= limit:
            return noise
        power *= 1.5


def _divided(
    gap: float, share: float, zeros: float, ones: float, size: int, power: float
) -> tuple[float, tuple[tuple[float, float], tuple[float, float]]]:
    """Divide noise of one power so that the divergences are smallest."""
    evened = max(0.0, ones - zeros), max(0.0, zeros - ones)  # what makes both classes equally wide across the gap

    def noise_at(part: float) -> tuple[float, tuple[tuple[float, float], tuple[float, float]]]:
        for_one = part * power / share
        for_zero = (1 - part) * power / (1 - share)
        laws = []
        for total, level in ((for_zero, evened[0]), (for_one, evened[1])):
            across = min(level, total / (size - 1)) if size > 1 else 0.0
            laws.append((max(0.0, total - (size - 1) * across), across))
        value = sum_kl(
            gap,
            (laws[0][0] + zeros + _TINY * gap**2, laws[0][1] + zeros + _TINY * gap**2),
            (laws[1][0] + ones + _TINY * gap**2, laws[1][1] + ones + _TINY * gap**2),
            size,
        )
        return value, (laws[0], laws[1])

    from scipy.optimize import minimize_scalar  # imported late, because it takes a second

    best = minimize_scalar(lambda part: noise_at(float(part))[0], bounds=(0.0, 1.0), method="bounded")
    candidates = [noise_at(float(part)) for part in (0.0, share, float(best.x), 1.0)]
    return min(candidates, key=lambda pair: pair[0])


_TINY = 1e-12
"""Variance of a class of equal rows, in squared gaps, with which the divergences stay finite."""


def _spread(rows: Tensor, unit: Tensor) -> float:
    """Return the mean variance of a coordinate of rows [B, q]."""
    centred = rows - rows.mean(0)
    return float(np.mean((centred**2).numpy())) if len(rows) > 1 else 0.0
