"""Losses check shapes, and receive what torch's functions take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import same, train, weights
from torch import Tensor, nn

from raysplit.actors.parts.losses import cross_entropy, mse, resolve_loss, task_sum, wire_labels


def one_output(num_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1))


def one_hot_loss(logits: Tensor, y: Tensor) -> Tensor:
    return (logits - nn.functional.one_hot(y, logits.shape[1])).square().mean()


def per_sample(logits: Tensor, y: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, y, reduction="none")


def needs_floats(logits: Tensor, y: Tensor) -> Tensor:
    return nn.functional.binary_cross_entropy_with_logits(logits, y)


def test_mse_compares_one_output_with_one_target_each() -> None:
    """[B, 1] against [B] was compared all with all: a regression ended at 2.37, where the right loss is 0.09."""
    y = torch.tensor([0, 1, 2])
    assert float(mse(y[:, None].float(), y)) == 0.0
    assert float(mse(torch.zeros(3, 1), y)) == pytest.approx(5 / 3)
    assert float(mse(torch.zeros(3), y)) == pytest.approx(5 / 3)
    for shape in ([3, 4], [1, 3], [4, 1]):
        with pytest.raises(ValueError, match=r"mse compares outputs and targets of one shape, and they are \["):
            mse(torch.zeros(shape), y)


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "message"),
    [
        (cross_entropy, torch.zeros(3), torch.tensor([0, 1, 2]), r"logits \[B, C\] and labels \[B\]"),
        (cross_entropy, torch.zeros(4, 3), torch.tensor([0, 1, 2]), r"they are \[4, 3\] and \[3\]"),
        (cross_entropy, torch.zeros(3, 3), {"a": torch.zeros(3)}, "the targets are a"),
        (mse, {"a": torch.zeros(3)}, torch.zeros(3), "the outputs are a"),
        (task_sum, torch.zeros(3, 2), torch.tensor([0, 1, 0]), "here is a single output; set training.loss"),
        (task_sum, {"scale": torch.zeros(3, 2)}, {"scale": torch.zeros(3)}, "here is scale"),
    ],
)
def test_what_a_loss_does_not_take_is_told(loss: Any, outputs: Any, targets: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loss(outputs, targets)


def test_a_loss_of_ones_own_receives_labels_as_torch_takes_them() -> None:
    """Labels cross the links as int32; one_hot and label smoothing failed on them."""
    y = torch.tensor([0, 3, 1])
    assert wire_labels(y).dtype == torch.int32
    smooth = resolve_loss("support:smoothed")
    expected = smooth(torch.eye(4)[:3], y)
    assert torch.equal(smooth(torch.eye(4)[:3], wire_labels(y)), expected)
    assert torch.equal(smooth({"a": torch.eye(4)[:3]}, {"a": wire_labels(y)}), expected)
    assert resolve_loss("cross_entropy") is cross_entropy


@pytest.mark.parametrize("name", ["splitfed_v1", "minibatch_sfl", "fedavg"])
def test_label_smoothing_trains_with_the_same_bytes(name: str) -> None:
    smooth = train(algorithm={"name": name}, training__loss="support:smoothed")
    plain = train(algorithm={"name": name})
    assert smooth.rows[-1]["bytes"] == plain.rows[-1]["bytes"]
    assert not same(smooth, plain)


@pytest.mark.parametrize("name", ["fedavg", "minibatch_sfl"])
def test_a_regression_is_trained_and_has_no_accuracy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    training = {"rounds": 6, "batch_size": 16, "loss": "mse", "optimizer": {"lr": 0.05}}
    result = train(algorithm={"name": name}, model={"name": "test_losses:one_output"}, training=training)
    assert result.rows[-1]["train_loss"] < 0.5 * result.rows[0]["train_loss"]
    assert "test_accuracy" not in result.rows[-1]
    assert result.rows[-1]["test_loss"] > 0
    assert weights(result)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            "mse",
            r"training.loss is mse, the model's outputs are float64 \[2, 5\] and the targets int64 \[2\]: mse compares",
        ),
        ("task_sum", "task_sum is for the dense tasks s, d, n, .*; set training.loss to cross_entropy"),
        (
            "test_losses:per_sample",
            r"returned a tensor of shape \(2,\); it must return one number as a tensor, the mean over",
        ),
        ("test_losses:needs_floats", "Target size .* must be the same as input size"),
    ],
)
def test_a_loss_that_does_not_fit_is_told_before_the_start(
    loss: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was told from an owner's first step, by torch."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with pytest.raises(ValueError, match=message) as caught:
        train(training__loss=loss)
    assert not getattr(caught.value, "__notes__", [])  # an owner notes its name, round and step


def test_a_model_with_too_few_outputs_is_told_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    with pytest.raises(ValueError, match="the data have 5 classes, and cross_entropy needs an output for each"):
        train(model={"name": "test_losses:one_output"})


def test_one_hot_targets_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    assert train(training__loss="test_losses:one_hot_loss").rows[-1]["train_loss"] > 0
