"""Noise on gradients: equal norms, two classes that no test tells apart, and the mean of the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from raysplit.guards.noise.gradients import (
    auc_bound,
    averaged,
    least_noise,
    sum_kl,
    sum_kl_limit,
    with_marvell,
    with_max_norm,
)


def rows(count: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_max_norm_gives_all_rows_one_expected_squared_norm() -> None:
    g = rows(5, 3) * torch.tensor([[1.0], [0.1], [3.0], [0.5], [2.0]])
    draws = np.random.default_rng(0)
    squares = with_max_norm(g.repeat(40_000, 1), draws).square().sum(1).reshape(-1, 5).mean(0)
    assert squares.tolist() == pytest.approx([float(g.square().sum(1).max())] * 5, rel=0.05)
    assert torch.equal(with_max_norm(torch.zeros(2, 3, dtype=torch.float64), draws), torch.zeros(2, 3))


def test_two_normal_laws_in_one_dimension() -> None:
    assert sum_kl(0.8, (1.0, 1.0), (1.0, 1.0), 1) == pytest.approx(0.64)
    assert auc_bound(0.64) == pytest.approx(0.82)
    assert float(norm.cdf(0.8 / np.sqrt(2))) == pytest.approx(0.7142, abs=1e-4)
    assert float(norm.cdf(0.8 / np.sqrt(2))) <= auc_bound(0.64)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
def test_noise_keeps_the_limit_and_no_more_is_added_where_classes_are_mixed(share: float) -> None:
    limit = sum_kl_limit(0.3)
    (a, b), (c, d) = least_noise(1.0, share, 0.01, 0.02, 20, limit)
    assert sum_kl(1.0, (a + 0.01, b + 0.01), (c + 0.02, d + 0.02), 20) <= limit
    small = least_noise(0.01, share, 1.0, 1.0, 20, limit)
    assert max(*small[0], *small[1]) < 1e-3


def test_marvell_hides_the_class() -> None:
    labels = torch.arange(400) % 2
    g = rows(400, 10) * 0.1
    g[labels == 1, 0] += 1.0
    noisy = with_marvell(g, labels, 0.35, np.random.default_rng(1))
    direction = g[labels == 1].mean(0) - g[labels == 0].mean(0)

    def auc(values: torch.Tensor) -> float:
        score = values @ direction
        return float((score[labels == 1][:, None] > score[labels == 0][None, :]).double().mean())

    assert auc(g) > 0.99
    assert auc(noisy) < auc_bound(sum_kl_limit(0.35)) + 0.05
    assert torch.equal(with_marvell(g, torch.zeros(400), 0.35, np.random.default_rng(1)), g)


def test_average_is_the_mean_for_all() -> None:
    g = rows(4, 3)
    assert torch.allclose(averaged(g), g.mean(0).expand(4, 3))
