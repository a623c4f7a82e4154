"""Losses with values worked out by hand, and the weights of GradNorm."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from raysplit.models.dense import gradnorm as mas_gradnorm
from raysplit.models.dense.losses import (
    TASKS,
    l1_loss,
    segmentation_loss,
    shift_tolerant_l1_loss,
    task_losses,
)
from raysplit.models.dense.net import MultiTaskModel


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_segmentation_ignores_label_0() -> None:
    scores = torch.zeros(1, 18, 1, 3)
    scores[0, 2, 0, 1] = math.log(17)  # probability 17 / (17 + 17) = 1/2 for class 2
    labels = torch.tensor([[[0, 2, 5]]])  # ignored, -log(1/2), -log(1/18)
    assert segmentation_loss(scores, labels).item() == pytest.approx((math.log(2) + math.log(18)) / 2)


def test_segmentation_without_any_label_is_zero() -> None:
    assert segmentation_loss(torch.randn(1, 18, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8)).item() == 0.0


def test_l1_counts_masked_pixels_as_zero_in_the_mean() -> None:
    target = torch.tensor([[[[1.0, math.nan], [3.0, 4.0]]]])
    prediction = torch.zeros(1, 1, 2, 2, requires_grad=True)
    loss = l1_loss(prediction, target)
    assert loss.item() == (1 + 0 + 3 + 4) / 4
    loss.backward()
    assert torch.equal(prediction.grad, torch.tensor([[[[-0.25, 0.0], [-0.25, -0.25]]]]))  # type: ignore[arg-type]


def test_shift_tolerant_l1_by_hand() -> None:
    target = torch.zeros(1, 1, 3, 3)
    prediction = torch.tensor([[[[5.0, 4.0, 3.0], [2.0, 9.0, 7.0], [8.0, 6.0, 1.0]]]])
    assert shift_tolerant_l1_loss(prediction, target).item() == 1.0  # the centre is met by the lower right pixel


@pytest.mark.parametrize("rows", [-1, 0, 1])
@pytest.mark.parametrize("columns", [-1, 0, 1])
def test_shift_tolerant_l1_forgives_any_shift_by_one_pixel(rows: int, columns: int) -> None:
    target = images(2, 3, 8, 8)
    assert shift_tolerant_l1_loss(target.roll((rows, columns), dims=(2, 3)), target).item() == 0.0
    assert shift_tolerant_l1_loss(target.roll((2, 0), dims=(2, 3)), target).item() > 0.1


def test_shift_tolerant_l1_is_at_most_the_plain_one_on_the_interior() -> None:
    for seed in range(5):
        prediction, target = images(3, 2, 7, 9, seed=seed), images(3, 2, 7, 9, seed=seed + 100)
        plain = l1_loss(prediction[:, :, 1:-1, 1:-1], target[:, :, 1:-1, 1:-1])
        assert shift_tolerant_l1_loss(prediction, target).item() <= plain.item()


def test_shift_tolerant_l1_takes_the_best_offset_of_each_image() -> None:
    target = images(2, 1, 8, 8)
    prediction = torch.stack([target[0].roll(1, dims=1), target[1].roll(-1, dims=2)])
    assert shift_tolerant_l1_loss(prediction, target).item() == 0.0


def test_shift_tolerant_l1_masks_and_needs_an_interior() -> None:
    target = images(1, 1, 4, 4)
    target[0, 0, 1, 1] = math.nan
    prediction = target.nan_to_num(nan=100.0).requires_grad_()
    loss = shift_tolerant_l1_loss(prediction, target)
    assert loss.item() == 0.0
    loss.backward()
    assert prediction.grad is not None
    assert bool(prediction.grad.isfinite().all())
    with pytest.raises(ValueError, match="3x3"):
        shift_tolerant_l1_loss(images(1, 1, 2, 4), images(1, 1, 2, 4))


def test_nine_tasks_and_their_channels() -> None:
    channels = {letter: task.num_channels for letter, task in TASKS.items()}
    assert channels == {"s": 18, "d": 1, "n": 3, "k": 1, "t": 1, "e": 1, "r": 1, "c": 2, "a": 3}


def test_task_losses_covers_the_outputs_alone() -> None:
    targets = {"d": images(1, 1, 4, 4), "k": images(1, 1, 4, 4)}
    assert task_losses({"k": targets["k"] + 2}, targets)["k"] == pytest.approx(2.0)


def test_gradnorm_weights_move_towards_the_slower_task_and_keep_their_sum() -> None:
    state = mas_gradnorm.GradNormState(
        weights={"a": 1.0, "b": 1.0}, initial_losses={"a": 1.0, "b": 1.0}, num_calls=mas_gradnorm.NUM_WARM_UP_CALLS
    )
    after = mas_gradnorm.update(state, losses={"a": 0.9, "b": 0.1}, norms={"a": 1.0, "b": 1.0})
    assert after.weights == pytest.approx({"a": 1.0001, "b": 0.9999}, abs=1e-12)
    after = mas_gradnorm.update(state, losses={"a": 1.0, "b": 1.0}, norms={"a": 4.0, "b": 1.0})
    assert after.weights == pytest.approx({"a": 0.9999, "b": 1.0001}, abs=1e-12)
    assert after.num_calls == 201


def test_gradnorm_refreshes_the_initial_losses_during_warm_up_only() -> None:
    state = mas_gradnorm.start(("a", "b"))
    for call in range(201):
        state = mas_gradnorm.update(state, losses={"a": 1.0 + call, "b": 2.0}, norms={"a": 1.0, "b": 1.0})
    assert state.initial_losses == {"a": 200.0, "b": 2.0}
    assert sum(state.weights.values()) == pytest.approx(2.0)


def test_gradnorm_gradients_are_those_of_the_weighted_sum() -> None:
    torch.manual_seed(0)
    model = MultiTaskModel(nn.Linear(2, 3), nn.ModuleDict({"a": nn.Linear(3, 1), "b": nn.Linear(3, 1)})).double()
    x, losses = images(4, 2), {"a": l1_loss, "b": l1_loss}
    targets = {"a": images(4, 1, seed=1), "b": images(4, 1, seed=2)}
    state = mas_gradnorm.GradNormState(weights={"a": 0.5, "b": 1.5}, initial_losses={}, num_calls=0)
    values, state = mas_gradnorm.backward(model, x, targets, losses, state)
    encoder_gradient, a_gradient = model.encoder.weight.grad.clone(), model.decoders["a"].weight.grad.clone()
    model.zero_grad()
    z = model.encoder(x)
    a, b = (losses[t](model.decoders[t](z), targets[t]) for t in "ab")
    assert values == pytest.approx({"a": a.item(), "b": b.item()})
    expected = torch.autograd.grad(state.weights["a"] * a + state.weights["b"] * b, model.encoder.weight)[0]
    torch.testing.assert_close(encoder_gradient, expected / math.sqrt(2))
    torch.testing.assert_close(
        a_gradient, torch.autograd.grad(losses["a"](model(x)["a"], targets["a"]), model.decoders["a"].weight)[0]
    )
