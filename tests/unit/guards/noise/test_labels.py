"""Randomized response keeps a label with the right probability, and the corrected loss knows it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from raysplit.guards.account.accounting import keep_probability
from raysplit.guards.noise.labels import FlippedCrossEntropy, flipped
from raysplit.guards.secret import Secret


@pytest.mark.parametrize(("epsilon", "keep"), [(1, 0.231969), (2, 0.450853), (4, 0.858486)])
def test_keep_probability_of_ten_classes(epsilon: float, keep: float) -> None:
    assert keep_probability(epsilon, 10) == pytest.approx(keep, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_likelihood_ratio_of_every_pair_is_at_most_that_of_epsilon(classes: int) -> None:
    keep = keep_probability(1.5, classes)
    matrix = np.full((classes, classes), (1 - keep) / (classes - 1))
    np.fill_diagonal(matrix, keep)
    ratios = matrix[:, None, :] / matrix[None, :, :]
    assert ratios.max() == pytest.approx(math.exp(1.5))
    assert matrix.sum(1) == pytest.approx(np.ones(classes))


def test_labels_are_kept_and_flipped_as_often_as_said() -> None:
    labels = torch.full((200_000,), 3)
    found = flipped(labels, 5, 2.0, Secret(b"s" * 32, "owner-0").stream("labels"))
    shares = torch.bincount(found, minlength=5) / len(labels)
    keep = keep_probability(2.0, 5)
    assert float(shares[3]) == pytest.approx(keep, abs=0.005)
    assert shares[[0, 1, 2, 4]].tolist() == pytest.approx([(1 - keep) / 4] * 4, abs=0.005)


def test_a_label_depends_on_its_sample_alone() -> None:
    labels = torch.arange(40) % 4
    secret = Secret(b"s" * 32, "owner-0")
    whole = flipped(labels, 4, 1.0, secret.stream("labels"))
    assert torch.equal(whole, flipped(labels, 4, 1.0, secret.stream("labels")))
    changed = labels.clone()
    changed[7] = (changed[7] + 1) % 4
    again = flipped(changed, 4, 1.0, secret.stream("labels"))
    assert torch.equal(again[torch.arange(40) != 7], whole[torch.arange(40) != 7])


def test_a_missing_label_stays_missing() -> None:
    found = flipped(torch.full((100,), -100, dtype=torch.int32), 4, 0.1, Secret(b"s" * 32, "a").stream("labels"))
    assert found.dtype == torch.int32
    assert (found == -100).all()


def test_corrected_loss_is_that_of_mixed_probabilities() -> None:
    logits, y = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, -100, 0])
    keep = keep_probability(1.0, 4)
    matrix = torch.full((4, 4), (1 - keep) / 3, dtype=torch.float64).fill_diagonal_(keep)
    mixed = (torch.softmax(logits, 1) @ matrix.T).log()
    expected = -mixed[y >= 0].gather(1, y[y >= 0][:, None]).mean()
    assert float(FlippedCrossEntropy(epsilon=1.0, num_classes=4)(logits, y)) == pytest.approx(float(expected))


def test_corrected_loss_is_finite_where_a_class_is_certain() -> None:
    logits = torch.tensor([[1e4, 0.0, 0.0]], requires_grad=True)
    loss = FlippedCrossEntropy(epsilon=2.0, num_classes=3)(logits, torch.tensor([1]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert math.isfinite(float(loss.detach()))
    assert torch.isfinite(logits.grad).all()  # type: ignore[arg-type]
