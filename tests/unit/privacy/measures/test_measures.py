"""Measures of leakage against values that are known on paper."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from raysplit.models.nets.small_nets import cnn8
from raysplit.privacy.measures.distance_correlation import dcor2_unbiased, dcor_biased, dependence
from raysplit.privacy.measures.fisher import fisher_bound, trace_of_squares
from raysplit.privacy.measures.guesses import (
    accuracy,
    balanced_accuracy,
    cluster_chance,
    majority_share,
    named_clusters,
)
from raysplit.privacy.measures.pictures import nmse, psnr, ssim
from raysplit.privacy.measures.ranking import ranking
from raysplit.privacy.measures.score import attack_gain, gain, score


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def orthogonal(size: int) -> Tensor:
    return torch.linalg.qr(drawn(size, size, seed=5))[0]


# -- distance correlation ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("measure", [dcor_biased, dcor2_unbiased])
def test_rows_depend_wholly_on_themselves_and_on_what_was_turned_scaled_and_moved(measure) -> None:
    x = drawn(40, 7)
    assert measure(x, x) == pytest.approx(1, abs=1e-9)
    assert measure(x, 3.7 * x @ orthogonal(7) + 2) == pytest.approx(1, abs=1e-9)
    assert measure(x, torch.ones(40, 3)) == 0


def test_distance_correlation_of_a_parabola() -> None:
    """Values that are linearly uncorrelated and depend on one another."""
    for x, wanted in (
        ([-1.0, 0, 1], 10 ** (-1 / 4)),
        ([0.0, 1, 2, 3], 0.9684641640),
        ([-2.0, -1, 0, 1, 2], 0.5159234569),
    ):
        values = torch.tensor(x, dtype=torch.float64)
        assert dcor_biased(values, values**2) == pytest.approx(wanted, abs=1e-9)
    assert dcor2_unbiased(values, values**2) == pytest.approx(-1 / math.sqrt(6), abs=1e-9)


def test_the_biased_form_is_near_one_for_independent_rows() -> None:
    """A published figure of 0.9 at 32 rows is below chance; the unbiased form is 0 there."""
    gen = torch.Generator().manual_seed(1)
    pairs = [
        (torch.randn(64, 784, generator=gen, dtype=torch.float64), torch.randn(64, 1568, generator=gen))
        for _ in range(40)
    ]
    unbiased = [dcor2_unbiased(x, z) for x, z in pairs]
    assert abs(sum(unbiased) / len(pairs)) < 0.01
    assert min(dcor_biased(x, z) for x, z in pairs) > 0.98


def test_permutations_say_how_sure_a_dependence_is() -> None:
    x = drawn(30, 4)
    sure, chance = dependence(x, x**2, seed=0), dependence(x, drawn(30, 4, seed=9), seed=0)
    assert sure.p_value == 0.01
    assert chance.p_value > 0.05
    assert (sure.rows, sure) == (30, dependence(x, x**2, seed=0))
    with pytest.raises(ValueError, match=r"4 rows.*at least 5"):
        dcor2_unbiased(x[:4], x[:4])


# -- pictures ------------------------------------------------------------------------------------------------------


def test_pictures_of_one_gray() -> None:
    x = torch.full((2, 1, 12, 12), 0.5)
    assert ssim(x, x) == pytest.approx(1, abs=1e-9)
    assert ssim(x, torch.full_like(x, 0.6)) == pytest.approx(0.6001 / 0.6101, abs=1e-6)
    assert psnr(x.double(), x.double() + 0.1) == pytest.approx(20, abs=1e-9)
    assert psnr(x, x) == 100


def test_the_mean_of_the_samples_has_error_one() -> None:
    x = drawn(50, 1, 8, 8).sigmoid()
    mean = x.mean(dim=0)
    assert nmse(x, mean.expand_as(x), mean) == pytest.approx(1, abs=1e-12)
    assert nmse(x, x, mean) == 0
    assert 0 < ssim(x, mean.expand_as(x)) < 1  # not 0, therefore never without its chance


def test_small_and_large_pictures_have_a_similarity_and_others_are_refused() -> None:
    for side in (3, 8, 28):
        x = drawn(3, 2, side, side).sigmoid()
        assert ssim(x, x) == pytest.approx(1)
        assert ssim(x, 1 - x) < 0.9
    with pytest.raises(ValueError, match="pictures"):
        ssim(drawn(3, 5), drawn(3, 5))


# -- Fisher information --------------------------------------------------------------------------------------------


def test_every_probe_of_a_turned_and_scaled_space_is_exact() -> None:
    q = orthogonal(6)
    for probes in (1, 5):
        assert trace_of_squares(lambda x: 3 * x @ q, drawn(4, 6), seed=0, probes=probes) == pytest.approx(54, abs=1e-10)


def test_probes_come_near_the_exact_derivative_of_a_network() -> None:
    torch.manual_seed(0)
    part = cnn8((1, 8, 8), 10)[:1].double().requires_grad_(False)
    x = drawn(8, 1, 8, 8)
    rows = torch.autograd.functional.jacobian(lambda x: part(x).sum(dim=0), x)  # [C, H, W, rows, 1, 8, 8]
    exact = rows.square().sum() / len(x)
    assert trace_of_squares(part, x, seed=0, probes=64) == pytest.approx(float(exact), rel=0.03)


def test_the_bound_is_the_error_of_the_best_estimate_of_gaussian_samples() -> None:
    a, s, sigma, d, n = 1.5, 0.7, 0.9, 4, 100_000
    q, x = orthogonal(d), s * drawn(n, d)
    z = a * x @ q + sigma * drawn(n, d, seed=3)
    best = (a * s**2 / (a**2 * s**2 + sigma**2)) * z @ q.T
    wanted = 1 / (1 + a**2 * s**2 / sigma**2)
    found = fisher_bound(lambda rows: a * rows @ q, x, seed=0, sigma=sigma)
    assert found.fisher_bound == pytest.approx(wanted, rel=0.01)
    assert nmse(x, best, torch.zeros(d)) == pytest.approx(wanted, rel=0.01)
    assert found.leak_fisher == pytest.approx(1 - wanted, rel=0.02)
    assert found.rho is None


def test_the_bound_stays_below_the_error_where_numbers_are_lost() -> None:
    s, sigma, d, kept, n = 1.0, 0.5, 6, 2, 20_000
    q, x = orthogonal(d)[:, :kept], drawn(n, d)
    z = x @ q + sigma * drawn(n, kept, seed=3)
    best = (s**2 / (s**2 + sigma**2)) * z @ q.T
    bound = fisher_bound(lambda rows: rows @ q, x, seed=0, sigma=sigma).fisher_bound
    assert bound <= nmse(x, best, torch.zeros(d))


def test_a_constant_output_tells_nothing() -> None:
    assert fisher_bound(lambda x: torch.zeros(len(x), 3), drawn(5, 4), seed=0).fisher_bound == 1
    layer = nn.Linear(4, 3, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    assert fisher_bound(layer, drawn(5, 4), seed=0, rho=0.5).leak_fisher == 0


# -- guesses, ranking, score ---------------------------------------------------------------------------------------


def test_clusters_get_the_names_that_fit_best() -> None:
    y = torch.tensor([0, 0, 1, 1, 2, 2])
    clusters = torch.tensor([2, 2, 0, 0, 1, 0])
    assert named_clusters(y, clusters, 3).tolist() == [0, 0, 1, 1, 2, 1]
    assert majority_share(y) == pytest.approx(1 / 3)
    skewed, guess = torch.tensor([0, 0, 0, 1]), torch.zeros(4, dtype=torch.int64)
    assert (accuracy(skewed, guess), balanced_accuracy(skewed, guess)) == (0.75, 0.5)


def test_the_chance_of_clusters_is_above_one_over_the_classes() -> None:
    """Ten random clusters of 320 rows name 17.5 percent rightly, not ten."""
    gen = torch.Generator().manual_seed(0)
    y, clusters = (torch.randint(10, (320,), generator=gen) for _ in range(2))
    mean, spread = cluster_chance(y, clusters, 10, seed=0)
    assert 0.15 < mean < 0.2
    assert 0 < spread < 0.02


def test_ranking_of_two_groups() -> None:
    apart = ranking(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 2.0]))
    assert (apart.auc, apart.advantage, apart.tpr_at_1, apart.tpr_at_5) == (1, 1, 1, 1)
    mixed = ranking(torch.tensor([1.0, 3.0]), torch.tensor([2.0, 4.0]))
    assert (mixed.auc, mixed.tpr_at_1) == (0.25, 0)
    with pytest.raises(ValueError, match="0 members"):
        ranking(torch.zeros(0), torch.zeros(2))


def test_scores_of_the_four_corners() -> None:
    assert score(0, 1).value == pytest.approx(1, abs=1e-6)
    assert score(1, 1).value == pytest.approx(0.585786, abs=1e-6)
    assert score(0, 0).value == pytest.approx(0.585786, abs=1e-6)
    assert score(1, 0).value == pytest.approx(0.5, abs=1e-6)
    steps = [i / 5 for i in range(6)]
    for attack in steps:
        for task in steps:
            assert score(max(attack - 0.2, 0), min(task + 0.2, 1)).value >= score(attack, task).value
    assert gain(0.97, 0.385) == pytest.approx(0.9512, abs=1e-4)
    assert gain(0.2, 1.0, 0.0) == pytest.approx(0.8)
    assert attack_gain({"inversion": [0.9, 0.5], "labels": [0.1]}) == pytest.approx(0.4)
