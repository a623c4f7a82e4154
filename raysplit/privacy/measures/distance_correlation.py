"""Distance correlation between samples and smashed data.

Székely, Rizzo, Bakirov, "Measuring and testing dependence by correlation of distances" (2007), and its unbiased form,
Székely, Rizzo (2014), which is the one to use: with few rows and many numbers the biased form is near 1 for independent
values (0.97 for 256 rows of 784 and 1568 Gaussian numbers), so that a figure of 0.9 can be *below* chance.

Distances are differences in float64, not square roots of a Gram matrix, which would cancel.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from raysplit.seeding import torch_generator

LEAST_ROWS = 5
"""Rows from which on there is an unbiased form."""
_PERMUTATIONS = 99


@dataclass(frozen=True, kw_only=True)
class Dependence:
    """Dependence of two sets of rows.

    Attributes:
        dcor2_unbiased: the unbiased squared distance correlation; 0 is chance, and it may be negative.
        dcor_biased: the biased distance correlation, only to compare with figures that others publish.
        p_value: share of permutations with at least this dependence, the given one among them.
        rows: number of rows.
    """

    dcor2_unbiased: float
    dcor_biased: float
    p_value: float
    rows: int


def dependence(x: Tensor, z: Tensor, seed: int) -> Dependence:
    """Measure the dependence of rows ``x`` [n, ...] and ``z`` [n, ...], with 99 permutations drawn by ``seed``."""
    distances = _distances(x), _distances(z)
    a, b = (_u_centred(d) for d in distances)
    found = _correlation(a, b)
    gen = torch_generator(seed, "distance correlation")
    orders = [torch.randperm(len(x), generator=gen) for _ in range(_PERMUTATIONS)]
    as_large = sum(_correlation(a, b[order][:, order]) >= found for order in orders)
    return Dependence(
        dcor2_unbiased=found,
        dcor_biased=_biased(*distances),
        p_value=(1 + as_large) / (1 + _PERMUTATIONS),
        rows=len(x),
    )


def dcor2_unbiased(x: Tensor, z: Tensor) -> float:
    """Return the unbiased squared distance correlation of rows; 0 where one of them is constant."""
    return _correlation(_u_centred(_distances(x)), _u_centred(_distances(z)))


def dcor_biased(x: Tensor, z: Tensor) -> float:
    """Return the biased distance correlation (a V-statistic) of rows; 0 where one of them is constant."""
    return _biased(_distances(x), _distances(z))


def _distances(values: Tensor) -> Tensor:
    rows = values.detach().double().reshape(len(values), -1)
    exact = "donot_use_mm_for_euclid_dist"
    found: Tensor = torch.cdist(rows, rows, compute_mode=exact)
    return found


def _u_centred(distances: Tensor) -> Tensor:
    """Centre distances [n, n] so that the products of two such matrices have the unbiased mean."""
    n = len(distances)
    if n < LEAST_ROWS:
        raise ValueError(f"{n} rows for the unbiased distance correlation; give at least {LEAST_ROWS}")
    rows = distances.sum(dim=1, keepdim=True) / (n - 2)
    centred = distances - rows - rows.T + distances.sum() / ((n - 1) * (n - 2))
    return centred.fill_diagonal_(0)


def _centred(distances: Tensor) -> Tensor:
    rows = distances.mean(dim=1, keepdim=True)
    return distances - rows - rows.T + distances.mean()


def _biased(a: Tensor, b: Tensor) -> float:
    squared = _correlation(_centred(a), _centred(b))
    return float(max(squared, 0.0) ** 0.5)


def _correlation(a: Tensor, b: Tensor) -> float:
    norms = ((a * a).sum() * (b * b).sum()).sqrt()
    return float((a * b).sum() / norms) if norms > 0 else 0.0
