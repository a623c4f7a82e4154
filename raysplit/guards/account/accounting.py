"""Epsilon of one release and of several, where one sample may be replaced by another.

* Gaussian: a release with sensitivity D and noise sigma is mu-GDP with mu = D / sigma, several adaptively chosen ones
  are sqrt(sum of mu^2)-GDP, and delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu) exactly
  (Balle and Wang 2018, arXiv 1805.06530; Dong, Roth, Su 2019, arXiv 1905.02383).
* Pure releases of epsilon_0: their sum, advanced composition in the form of Kairouz, Oh and Viswanath (2015, arXiv
  1311.0776), and for Laplace noise Renyi divergences (Mironov 2017, arXiv 1702.07476); the least counts.
* Randomized response: the labels of a sample are drawn once and kept, so that sending them again costs nothing.

No amplification by sampling is credited: batches are shuffled with a seed that everybody knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

DELTA = 1e-5
"""The usual delta."""
_ORDERS = (*(1 + x / 10 for x in range(1, 100)), *range(12, 64))
"""Orders of Renyi divergences, those of Opacus."""


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Return delta(epsilon) of mu-GDP."""
    if mu <= 0:
        return 0.0
    from scipy.special import log_ndtr, ndtr  # imported late, because it takes a second

    first = float(ndtr(mu / 2 - epsilon / mu))
    return max(0.0, first - math.exp(min(700.0, epsilon + float(log_ndtr(-mu / 2 - epsilon / mu)))))


def gaussian_epsilon(mu: float, delta: float = DELTA) -> float:
    """Return the smallest epsilon with which mu-GDP is (epsilon, delta)-private; infinite for infinite ``mu``."""
    if mu <= 0:
        return 0.0
    if math.isinf(mu):
        return math.inf
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    high = 1.0
    while gaussian_delta(mu, high) > delta:
        high *= 2
    return _root(lambda epsilon: gaussian_delta(mu, epsilon) - delta, 0.0, high)


def mu_for(epsilon: float, delta: float = DELTA) -> float:
    """Return the largest mu with which mu-GDP is (epsilon, delta)-private."""
    high = 1.0
    while gaussian_delta(high, epsilon) <= delta:
        high *= 2
    return _root(lambda mu: delta - gaussian_delta(mu, epsilon), 0.0, high)


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Bisect a falling function between a place where it is positive and one where it is not; return the latter."""
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return high


def gaussian_sigma(sensitivity: float, epsilon: float, delta: float = DELTA) -> float:
    """Return the noise with which one release of this sensitivity is (epsilon, delta)-private."""
    return sensitivity / mu_for(epsilon, delta)


def basic(epsilons: Sequence[float]) -> float:
    """Return the sum of pure releases."""
    return math.fsum(epsilons)


def advanced(epsilons: Sequence[float], delta: float) -> float:
    """Return epsilon of pure releases by advanced composition."""
    if not epsilons:
        return 0.0
    squares = math.fsum(e * e for e in epsilons)
    drift = math.fsum(math.tanh(e / 2) * e for e in epsilons)
    return drift + math.sqrt(2 * squares * math.log(1 / delta))


def renyi_laplace(epsilons: Sequence[float], delta: float) -> float:
    """Return epsilon of Laplace releases by their Renyi divergences."""
    if not epsilons:
        return 0.0
    found = math.inf
    for order in _ORDERS:
        total = math.fsum(_renyi(order, e) for e in epsilons)
        found = min(found, total + math.log1p(-1 / order) - math.log(delta * order) / (order - 1))
    return max(0.0, found)


def _renyi(order: float, epsilon: float) -> float:
    """Return the Renyi divergence of Laplace noise whose means are ``epsilon`` scales apart (Mironov, corollary 2)."""
    first = math.log(order / (2 * order - 1)) + (order - 1) * epsilon
    second = math.log((order - 1) / (2 * order - 1)) - order * epsilon
    high = max(first, second)
    return (high + math.log(math.exp(first - high) + math.exp(second - high))) / (order - 1)


def pure_epsilon(laplace: Sequence[float], others: Sequence[float] = (), *, delta: float = DELTA) -> float:
    """Return the least epsilon of pure releases at ``delta``; those of Laplace noise may use it, others are added."""
    if not laplace:
        return basic(others)
    return basic(others) + min(basic(laplace), advanced(laplace, delta), renyi_laplace(laplace, delta))


def keep_probability(epsilon: float, num_classes: int) -> float:
    """Return the probability with which randomized response keeps a label."""
    return 1.0 / (1.0 + (num_classes - 1) * math.exp(-epsilon))
