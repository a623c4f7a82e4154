"""Attacks where their result is known: exact where nothing is lost, chance where nothing is seen."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysplit.attacks.images.affine import inverse_affine
from raysplit.attacks.images.gradient import from_first_layer, gradient_inversion, matched, one_step_gradient
from raysplit.attacks.images.inverse import inverse
from raysplit.attacks.images.sdar import PSEUDO_CLIENT, SDAR, ServerStep, sdar
from raysplit.attacks.images.unsplit import unsplit
from raysplit.attacks.labels.completion import completion
from raysplit.attacks.labels.counts import class_counts, labels_of_counts, single_label
from raysplit.attacks.labels.directions import clusters, few_of_each, nearest
from raysplit.attacks.labels.weights import by_trial, from_linear
from raysplit.attacks.membership import reference_models, scores
from raysplit.attacks.networks import applied, critic, decoder
from raysplit.attacks.pace import Pace
from raysplit.privacy.measures.guesses import accuracy, cluster_chance, named_clusters
from raysplit.privacy.measures.pictures import nmse, psnr


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def blobs(rows: int, seed: int = 0) -> Tensor:
    """Pictures of 8 x 8 with one bright spot each, which can be learned in a few steps."""
    gen = torch.Generator().manual_seed(seed)
    centers = torch.randint(1, 7, (rows, 2), generator=gen)
    at = torch.arange(8)
    rows_, columns = ((at[None] - centers[:, i, None]).square() for i in (0, 1))
    return torch.exp(-(rows_[:, :, None] + columns[:, None, :]) / 2.0).unsqueeze(1)


# -- reconstructions -----------------------------------------------------------------------------------------------


def test_ridge_regression_is_exact_where_the_part_is_affine() -> None:
    """At cut 0 what leaves is the sample itself, normalized."""
    x, aux = drawn(20, 1, 8, 8), drawn(120, 1, 8, 8, seed=1)
    mixing = torch.randn(64, 80, generator=torch.Generator().manual_seed(3))
    for encode in (lambda x: 2 * x - 1, lambda x: x.flatten(1) @ mixing):
        assert nmse(x, inverse_affine(encode, encode(x), aux), aux.mean(dim=0)) < 1e-9


def test_a_decoder_learns_to_undo_what_it_is_shown() -> None:
    x, aux = blobs(30).flatten(1), blobs(300, seed=1).flatten(1)
    guess = inverse(lambda x: 2 * x - 1, 2 * x - 1, aux, seed=0, pace=Pace(), steps=100)
    assert nmse(x, guess, aux.mean(dim=0)) < 0.35
    again = inverse(lambda x: 2 * x - 1, 2 * x - 1, aux, seed=0, pace=Pace(), steps=100)
    assert torch.equal(guess, again)


def test_what_is_constant_tells_nothing() -> None:
    """No reconstruction is better than the mean sample, and none is much worse."""
    x, aux = blobs(30).flatten(1), blobs(300, seed=1).flatten(1)
    constant = lambda x: torch.ones(len(x), 4)  # noqa: E731
    mean = aux.mean(dim=0)
    assert nmse(x, inverse_affine(constant, constant(x), aux), mean) == pytest.approx(1, abs=0.05)
    guess = inverse(constant, constant(x), aux, seed=0, pace=Pace(), steps=100)
    assert nmse(x, guess, mean) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("x_shape", [(1, 8, 8), (3, 28, 28), (3, 30, 17), (12,)])
@pytest.mark.parametrize("z_shape", [(4, 7, 7), (4, 40, 40), (10,)])
def test_decoders_give_samples_of_the_right_shape(z_shape: tuple[int, ...], x_shape: tuple[int, ...]) -> None:
    if len(x_shape) == 1 and len(z_shape) == 3:
        z_shape = (6,)
    made = applied(decoder(z_shape, x_shape), torch.zeros(3, *z_shape))
    assert made.shape == (3, *x_shape)
    assert critic(z_shape)(torch.zeros(3, *z_shape)).shape == (3,)


def test_samples_and_a_known_part_are_found_together() -> None:
    part = nn.Sequential(nn.Flatten(), nn.Linear(64, 96))
    x = drawn(4, 1, 8, 8)
    with torch.no_grad():
        z = part(x)
    guess, fit = unsplit(z, part, (1, 8, 8), pace=Pace("unsplit", 20))
    assert fit < 0.05
    assert nmse(x, guess, torch.full((1, 8, 8), 0.5)) < 0.8


@pytest.mark.parametrize("strengths", [PSEUDO_CLIENT, SDAR])
def test_a_copy_learns_from_the_server(strengths: object) -> None:
    x, aux = blobs(40), blobs(200, seed=1)
    y = aux.flatten(1).argmax(dim=1) // 8 // 4
    owner, top = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1)), nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    with torch.no_grad():
        z = owner(x)
    record = [ServerStep(z=z[:16], top=top), ServerStep(z=z[16:32], top=top)]
    copy = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1))
    guess = sdar(record, copy, z, aux, y, strengths=strengths, seed=0, pace=Pace(), steps=6)
    assert guess.shape == x.shape


def test_the_first_dense_layer_gives_its_only_sample() -> None:
    layer, x = nn.Linear(10, 6), drawn(1, 10)
    F.cross_entropy(layer(x), torch.tensor([2])).backward()
    found = from_first_layer(layer.weight.grad, layer.bias.grad)
    assert float((found - x[0]).square().mean()) < 1e-10
    assert psnr(x, found[None]) == 100


def test_a_gradient_is_inverted_and_samples_are_matched() -> None:
    layer = nn.Linear(16, 5).requires_grad_(False)
    weights = [p.clone().requires_grad_() for p in layer.parameters()]
    x, y = drawn(1, 16), torch.tensor([3])

    def gradient(made: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(F.cross_entropy(made @ weights[0].T + weights[1], y), weights, create_graph=True)

    guess = gradient_inversion(gradient, gradient(x), (1, 16), seed=0, pace=Pace(), smoothness=1e-4)
    assert float((guess - x).square().mean()) < 0.01
    rows = drawn(5, 3)
    assert torch.equal(matched(rows, rows[[3, 1, 0, 4, 2]]), rows)
    before, after = {"w": torch.tensor([1.0])}, {"w": torch.tensor([0.8])}
    assert float(one_step_gradient(before, after, 0.1)["w"]) == pytest.approx(2.0)


# -- labels --------------------------------------------------------------------------------------------------------


def rows_of_gradients(num_rows: int = 200, num_classes: int = 5) -> tuple[Tensor, Tensor, Tensor, nn.Linear]:
    torch.manual_seed(0)
    tail = nn.Linear(12, num_classes, dtype=torch.float64)
    z = torch.randn(num_rows, 12, dtype=torch.float64).requires_grad_()
    y = torch.arange(num_rows) % num_classes
    (g,) = torch.autograd.grad(F.cross_entropy(tail(z), y), z)
    return g, z.detach(), y, tail


def test_labels_are_exact_where_the_tail_is_a_known_linear_layer() -> None:
    g, z, y, tail = rows_of_gradients()
    assert torch.equal(from_linear(g, tail.weight), y)
    assert torch.equal(by_trial(z, g, tail, 5), y)
    g[3] = 0
    guess = from_linear(g, tail.weight)
    assert guess[3] == -1
    assert torch.equal(guess[4:], y[4:])


def test_untrained_gradients_fall_into_clusters_of_their_labels() -> None:
    g, z, y, _ = rows_of_gradients()
    assert accuracy(y, named_clusters(y, clusters(g, 5, seed=0), 5)) == 1
    known = few_of_each(y, 1, seed=0)
    assert len(known) == 5
    assert accuracy(y, nearest(g, g[known], y[known])) == 1
    assert accuracy(y, completion(z, z[known], y[known])) < 0.6  # the control: the features tell little


def test_gradients_that_say_nothing_give_chance() -> None:
    y = torch.arange(200) % 5
    noise = torch.randn(200, 12, generator=torch.Generator().manual_seed(4))
    parts = clusters(noise, 5, seed=0)
    mean, spread = cluster_chance(y, parts, 5, seed=0)
    assert abs(accuracy(y, named_clusters(y, parts, 5)) - mean) < 3 * max(spread, 0.01)
    flat = torch.zeros(200, 12)
    assert (nearest(flat, flat[:5], y[:5]) == -1).all()
    assert (clusters(flat, 5, seed=0) == -1).all()


def test_counts_of_classes_from_the_last_bias() -> None:
    p = torch.tensor([0.2, 0.3, 0.5])
    for label in range(3):
        assert single_label(p - F.one_hot(torch.tensor(label), 3)) == label
    y = torch.tensor([0, 0, 2, 1])
    gradient = p - F.one_hot(y, 3).double().mean(dim=0)
    assert labels_of_counts(class_counts(gradient, p, 4), 4).tolist() == [0, 0, 1, 2]


# -- membership ----------------------------------------------------------------------------------------------------


def test_members_have_lower_losses_and_references_are_trained_on_halves() -> None:
    x, y = drawn(20, 6), torch.arange(20) % 2
    sure = lambda x: F.one_hot(y[: len(x)], 2).float() * 9  # noqa: E731
    found = scores(sure, x, y, [lambda x: torch.zeros(len(x), 2)])
    assert (found.loss > -0.01).all()
    assert (found.margin == 9).all()
    assert (found.calibrated > 0.6).all()
    made = reference_models(lambda number: nn.Linear(6, 2), x, y, seed=0, pace=Pace(), epochs=2)
    assert len(made) == 4


# -- the time box --------------------------------------------------------------------------------------------------


def test_an_attack_stops_at_a_step_when_its_time_is_over() -> None:
    now, told = [0.0], []
    pace = Pace("inverse", 3.0, lambda *what: told.append(what), lambda: now[0])
    for _ in pace.steps(10):
        now[0] += 1
    assert (pace.num_steps, pace.truncated) == (3, True)
    assert told[-1] == ("inverse", 3, 10)
    assert list(pace.steps(5)) == []
    free = Pace()
    assert (list(free.steps(2)), free.truncated) == ([0, 1], False)
