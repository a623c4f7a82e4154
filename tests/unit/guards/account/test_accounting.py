"""Epsilons equal the analytic values and Opacus's accountants."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysplit.guards.account.accounting import (
    advanced,
    basic,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_sigma,
    pure_epsilon,
    renyi_laplace,
)

ANALYTIC = {
    0.1: 0.340669,
    0.25: 0.926342,
    0.5: 1.993091,
    1: 4.377178,
    2: 9.997256,
    4: 24.381611,
    8: 65.31922,
}


@pytest.mark.parametrize("mu", ANALYTIC)
def test_analytic_gaussian(mu: float) -> None:
    assert gaussian_epsilon(mu, 1e-5) == pytest.approx(ANALYTIC[mu], abs=1e-6)


@given(mu=st.floats(0.01, 4), count=st.integers(1, 200), delta=st.sampled_from([1e-6, 1e-5, 1e-3]))
def test_several_releases_are_one_of_the_root_of_the_sum(mu: float, count: int, delta: float) -> None:
    together = math.sqrt(math.fsum([mu**2] * count))
    assert gaussian_epsilon(together, delta) == pytest.approx(gaussian_epsilon(mu * math.sqrt(count), delta), abs=1e-6)


@given(epsilon=st.floats(0.05, 20), delta=st.sampled_from([1e-6, 1e-5, 1e-3]))
def test_noise_for_an_epsilon_gives_it_back(epsilon: float, delta: float) -> None:
    mu = 1 / gaussian_sigma(1.0, epsilon, delta)
    assert gaussian_epsilon(mu, delta) == pytest.approx(epsilon, abs=1e-6)
    assert gaussian_delta(mu, epsilon) <= delta * (1 + 1e-9)


@pytest.mark.parametrize(("epsilon", "ratio"), [(1, 3.730632), (4, 1.081162), (8, 0.600229)])
def test_noise_in_sensitivities(epsilon: float, ratio: float) -> None:
    assert gaussian_sigma(1.0, epsilon) == pytest.approx(ratio, abs=1e-6)


def test_ends() -> None:
    assert gaussian_epsilon(0.0) == 0
    assert gaussian_epsilon(math.inf) == math.inf
    assert gaussian_epsilon(1e-7) == 0


@pytest.mark.parametrize(
    ("noise", "steps", "renyi", "numeric"), [(1, 1, 4.7285, 4.3874), (1, 10, 19.0536, 17.8673), (4, 50, 9.2350, 8.6063)]
)
def test_dp_sgd_on_all_samples_is_no_more_than_by_opacus(
    noise: float, steps: int, renyi: float, numeric: float
) -> None:
    """Add or remove one sample: sensitivity of one clip. Opacus's numbers are of its accountants at delta 1e-5."""
    found = gaussian_epsilon(math.sqrt(steps) / noise, 1e-5)
    assert found <= renyi
    assert found == pytest.approx(numeric, abs=0.02)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore:divide by zero encountered in log:RuntimeWarning")
def test_opacus_says_so() -> None:
    from opacus.accountants import PRVAccountant, RDPAccountant

    for noise, steps, renyi, numeric in ((1.0, 1, 4.7285, 4.3874), (4.0, 50, 9.2350, 8.6063)):
        for kind, expected in ((RDPAccountant, renyi), (PRVAccountant, numeric)):
            accountant = kind()
            accountant.history = [(noise, 1.0, steps)]
            assert accountant.get_epsilon(delta=1e-5) == pytest.approx(expected, abs=1e-4)


def test_pure_releases_take_the_least() -> None:
    many = [0.1] * 50
    assert basic(many) == pytest.approx(5.0, abs=1e-4)
    assert advanced(many, 1e-5) == pytest.approx(3.6429, abs=1e-4)
    assert renyi_laplace(many, 1e-5) == pytest.approx(2.9977, abs=1e-4)
    assert pure_epsilon(many) == pytest.approx(2.9977, abs=1e-4)
    assert pure_epsilon([1.0] * 5) == pytest.approx(5, abs=1e-4)
    assert pure_epsilon([], [2.0]) == 2
    assert pure_epsilon([0.1] * 50, [2.0]) == pytest.approx(4.9977, abs=1e-4)
