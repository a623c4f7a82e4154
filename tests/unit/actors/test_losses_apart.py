"""Every owner's own mean loss out of a giant batch."""

from __future__ import annotations

import math

import pytest
import torch

from raysplit.actors.parts.losses import cross_entropy, losses_apart, mse


def test_the_owners_own_cross_entropies_come_out_of_one_pass() -> None:
    logits = torch.randn(7, 4, generator=torch.Generator().manual_seed(3))
    y = torch.tensor([0, 1, 2, 3, -100, 1, 2], dtype=torch.int32)
    outputs, ys = torch.split(logits, [3, 4]), torch.split(y, [3, 4])
    own = [cross_entropy(output, labels).item() for output, labels in zip(outputs, ys, strict=True)]
    assert losses_apart(cross_entropy, logits, y, outputs, ys) == pytest.approx(own, rel=1e-6)


def test_a_batch_without_any_label_has_no_loss() -> None:
    logits, y = torch.zeros(3, 2), torch.tensor([1, -100, -100], dtype=torch.int32)
    first, second = losses_apart(cross_entropy, logits, y, torch.split(logits, [1, 2]), torch.split(y, [1, 2]))
    assert first == pytest.approx(math.log(2))
    assert math.isnan(second)


def test_other_losses_are_taken_batch_by_batch() -> None:
    outputs, ys = (torch.zeros(2, 1), torch.ones(1, 1)), (torch.ones(2, 1), torch.full((1, 1), 3.0))
    assert losses_apart(mse, torch.cat(outputs), torch.cat(ys), outputs, ys) == [1.0, 4.0]
