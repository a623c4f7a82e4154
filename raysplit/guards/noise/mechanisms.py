"""Clipping, noise and dropout on the rows of a batch, and the noise that they need.

A row is everything that one sample sends: all tensors that cross a cut, as one vector. Two rows that are clipped to the
norm C differ by at most 2 C, which is the sensitivity where one sample is replaced by another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Draws = np.random.Generator
GRID = 2.0**-10
"""Step of the grid that noisy values are rounded to, in standard deviations of the noise (rounded down to a power of
two), so that the lowest bits of a sum do not tell its terms. This is no proof for floating point."""


def joined(tensors: Sequence[Tensor]) -> Tensor:
    """Return the rows of several tensors [B, ...] as one matrix [B, q] in float64."""
    return torch.cat([tensor.detach().cpu().double().reshape(len(tensor), -1) for tensor in tensors], dim=1)


def parted(rows: Tensor, like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return a matrix [B, q] as tensors of these shapes, types and devices."""
    sizes = [math.prod(tensor.shape[1:]) for tensor in like]
    pieces = torch.split(rows, sizes, dim=1)
    return tuple(
        piece.reshape(tensor.shape).to(tensor.dtype).to(tensor.device)
        for piece, tensor in zip(pieces, like, strict=True)
    )


def clipped(rows: Tensor, clip: float, order: int = 2) -> Tensor:
    """Scale rows [B, q] whose norm exceeds ``clip`` down to it; the others keep their bits.

    Args:
        rows: the rows.
        clip: largest norm; infinity changes nothing.
        order: 2 for the Euclidean norm, 1 for the sum of magnitudes.
    """
    norms = torch.linalg.vector_norm(rows, ord=order, dim=1, keepdim=True)
    inside = norms <= clip
    scaled = rows * (clip / torch.where(inside, torch.ones_like(norms), norms))
    return torch.where(inside, rows, scaled)


def gaussian_noise(shape: Sequence[int], sigma: float, draws: Draws) -> Tensor:
    """Draw normal noise in float64."""
    return torch.from_numpy(draws.normal(0.0, sigma, tuple(shape)))


def laplace_noise(shape: Sequence[int], scale: float, draws: Draws) -> Tensor:
    """Draw Laplace noise in float64."""
    return torch.from_numpy(draws.laplace(0.0, scale, tuple(shape)))


def on_grid(values: Tensor, sigma: float) -> Tensor:
    """Round noisy values in float64 to the grid of a noise of this standard deviation."""
    if not 0 < sigma < math.inf:
        return values
    step = 2.0 ** math.floor(math.log2(sigma)) * GRID
    return torch.round(values / step) * step


def with_gaussian(rows: Tensor, clip: float, sigma: float, draws: Draws) -> Tensor:
    """Clip rows [B, q] to an Euclidean norm and add normal noise of this standard deviation."""
    rows = clipped(rows, clip)
    return on_grid(rows + gaussian_noise(rows.shape, sigma, draws), sigma) if sigma else rows


def with_laplace(rows: Tensor, clip: float, scale: float, draws: Draws) -> Tensor:
    """Clip rows [B, q] to a sum of magnitudes and add Laplace noise of this scale."""
    rows = clipped(rows, clip, order=1)
    return on_grid(rows + laplace_noise(rows.shape, scale, draws), scale) if scale else rows


def with_relative_noise(rows: Tensor, ratio: float, draws: Draws) -> Tensor:
    """Add normal noise in proportion to the standard deviation of all values of the batch, which promises nothing."""
    sigma = ratio * float(rows.std(correction=0))
    return on_grid(rows + gaussian_noise(rows.shape, sigma, draws), sigma) if sigma else rows


def dropped(rows: Tensor, share: float, draws: Draws) -> Tensor:
    """Set a share of the values to 0, and scale the others so that the mean stays."""
    kept = torch.from_numpy(draws.random(tuple(rows.shape)) >= share)
    return torch.where(kept, rows / (1.0 - share), torch.zeros_like(rows))
