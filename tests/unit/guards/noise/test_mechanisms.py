"""Rows are clipped exactly, and noise has the law that it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from raysplit.guards.noise.mechanisms import (
    clipped,
    dropped,
    joined,
    on_grid,
    parted,
    with_gaussian,
    with_laplace,
    with_relative_noise,
)
from raysplit.guards.secret import Secret, rehearsal_secret

MANY = 10**6


def rows(seed: int, count: int = 40, width: int = 7) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=st.integers(0, 99), clip=st.floats(0.01, 50), order=st.sampled_from([1, 2]))
def test_clipped_rows_are_short_and_the_others_keep_their_bits(seed: int, clip: float, order: int) -> None:
    before = rows(seed)
    after = clipped(before, clip, order)
    norms = torch.linalg.vector_norm(before, ord=order, dim=1)
    assert float(torch.linalg.vector_norm(after, ord=order, dim=1).max()) <= clip * (1 + 1e-6)
    assert torch.equal(after[norms <= clip], before[norms <= clip])
    assert torch.allclose(clipped(after, clip, order), after, rtol=1e-12)
    gaps = torch.cdist(after, after, p=float(order))
    assert float(gaps.max()) <= 2 * clip * (1 + 1e-6)


def test_no_clip_changes_nothing() -> None:
    assert torch.equal(clipped(rows(0), float("inf")), rows(0))


def test_gaussian_noise_has_its_variance() -> None:
    sigma = 0.7
    noise = with_gaussian(torch.zeros(1, MANY, dtype=torch.float64), 1.0, sigma, rehearsal_secret(0, "a").stream("z"))
    assert float(noise.var()) == pytest.approx(sigma**2, abs=4 * sigma**2 * np.sqrt(2 / MANY))
    assert abs(float(noise.mean())) < 4 * sigma / np.sqrt(MANY)


def test_laplace_noise_has_its_variance() -> None:
    clip, epsilon = 3.0, 2.0
    scale = 2 * clip / epsilon
    draws = rehearsal_secret(0, "a").stream("z")
    noise = with_laplace(torch.zeros(1, MANY, dtype=torch.float64), clip, scale, draws)
    assert float(noise.var()) == pytest.approx(2 * scale**2, rel=4 * np.sqrt(5 / MANY))
    assert abs(float(noise.mean())) < 4 * scale * np.sqrt(2 / MANY)


def test_owners_steps_and_purposes_are_uncorrelated() -> None:
    secret, other = Secret(b"k" * 32, "owner-0"), Secret(b"k" * 32, "owner-1")
    streams = [
        secret.stream("z"),
        other.stream("z"),
        secret.stream("z", 0, 1),
        secret.stream("z", 1),
        secret.stream("g"),
    ]
    draws = np.stack([stream.normal(size=MANY // 4) for stream in streams])
    found = np.corrcoef(draws) - np.eye(len(streams))
    assert np.abs(found).max() < 5 / np.sqrt(MANY // 4)


def test_noisy_values_are_on_a_grid_of_a_power_of_two() -> None:
    sigma = 0.3
    noisy = with_gaussian(rows(1), 1.0, sigma, rehearsal_secret(0, "a").stream("z"))
    step = 2.0**-2 * 2.0**-10  # 0.25 is the largest power of two below 0.3
    assert torch.equal(noisy / step, torch.round(noisy / step))
    assert torch.equal(on_grid(noisy, sigma), noisy)


def test_relative_noise_follows_the_batch() -> None:
    wide = with_relative_noise(rows(2) * 100, 0.5, rehearsal_secret(0, "a").stream("z")) - rows(2) * 100
    narrow = with_relative_noise(rows(2), 0.5, rehearsal_secret(0, "a").stream("z")) - rows(2)
    assert float(wide.std() / narrow.std()) == pytest.approx(100, rel=1e-2)


def test_dropout_keeps_the_mean() -> None:
    kept = dropped(torch.ones(1, MANY // 10, dtype=torch.float64), 0.3, rehearsal_secret(0, "a").stream("dropout"))
    assert set(kept.unique().tolist()) == {0.0, 1 / 0.7}
    assert float(kept.mean()) == pytest.approx(1, abs=0.02)


def test_several_tensors_are_one_row() -> None:
    z = (torch.ones(3, 2, 2), torch.full((3, 5), 2.0))
    joint = joined(z)
    assert joint.shape == (3, 9)
    assert joint.dtype == torch.float64
    assert all(torch.equal(a, b) for a, b in zip(parted(joint, z), z, strict=True))
