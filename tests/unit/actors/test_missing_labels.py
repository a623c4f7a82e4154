"""Samples that have labels for some tasks only: each task's loss and metrics leave out those without."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from raysplit.actors.evaluation import Evaluation, _of_tasks
from raysplit.data.labels import NO_LABEL
from raysplit.models.classifier.losses import joint_loss, task_losses
from raysplit.models.dense import gradnorm
from raysplit.models.dense.losses import TASKS
from raysplit.models.dense.losses import task_losses as dense_losses
from raysplit.training import metrics

NAN = float("nan")


def test_the_loss_of_a_task_is_the_mean_over_its_labels() -> None:
    torch.manual_seed(0)
    logits = {"a": torch.randn(4, 3, requires_grad=True), "b": torch.randn(4, 2, requires_grad=True)}
    y = {"a": torch.tensor([0, NO_LABEL, 2, NO_LABEL]), "b": torch.tensor([1, 0, 1, 1])}
    losses = task_losses(logits, y)
    assert torch.equal(losses["a"], F.cross_entropy(logits["a"][[0, 2]], torch.tensor([0, 2])))
    assert torch.equal(losses["b"], F.cross_entropy(logits["b"], y["b"]))
    joint_loss(losses).backward()  # type: ignore[no-untyped-call]
    assert logits["a"].grad is not None
    assert logits["a"].grad[[1, 3]].abs().max() == 0 < logits["a"].grad[[0, 2]].abs().max()


def test_a_batch_without_labels_for_a_task_has_loss_0_and_no_gradient() -> None:
    """The mean over no samples is NaN, which ended the run."""
    logits = {"a": torch.randn(2, 3, requires_grad=True)}
    loss = joint_loss(task_losses(logits, {"a": torch.tensor([NO_LABEL, NO_LABEL])}))
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits["a"].grad is not None
    assert logits["a"].grad.abs().max() == 0


@pytest.mark.parametrize("task", ["d", "k"])
def test_an_image_without_a_dense_target_is_left_out(task: str) -> None:
    torch.manual_seed(0)
    output, target = torch.randn(3, 1, 4, 4, requires_grad=True), torch.randn(3, 1, 4, 4)
    whole = TASKS[task].loss(output[[0, 2]], target[[0, 2]])
    target[1] = NAN
    assert torch.equal(dense_losses({task: output}, {task: target})[task], whole)
    target[:] = NAN
    nothing = dense_losses({task: output}, {task: target})[task]
    assert nothing.item() == 0
    assert nothing.requires_grad


def test_single_invalid_pixels_still_count_in_the_mean() -> None:
    target = torch.zeros(1, 1, 2, 2)
    target[0, 0, 0, 0] = NAN
    assert float(dense_losses({"k": torch.ones(1, 1, 2, 2)}, {"k": target})["k"]) == 0.75


def test_metrics_of_a_task_are_over_its_labels_on_all_shards() -> None:
    sure = torch.tensor([[9.0, 0.0]])
    shards: list[tuple[Any, Any]] = [
        ({"a": sure.repeat(3, 1), "b": sure.repeat(3, 1)}, {"a": [0, NO_LABEL, 1], "b": [0, 0, 0]}),
        ({"a": sure.repeat(2, 1), "b": sure.repeat(2, 1)}, {"a": [NO_LABEL, NO_LABEL], "b": [1, 0]}),
    ]
    total = Evaluation(num_samples=0, num_correct=0, loss_sum=0.0)
    for outputs, y in shards:
        total += _of_tasks(outputs, {task: torch.tensor(labels) for task, labels in y.items()})
    assert total.task_accuracies == {"a": 0.5, "b": 0.8}
    loss = math.log1p(math.exp(-9))
    assert total.task_losses == {"a": pytest.approx(loss + 4.5), "b": pytest.approx(loss + 9 / 5)}


def test_a_task_without_a_labelled_test_sample_has_no_metrics() -> None:
    outputs = {"a": torch.zeros(2, 2), "b": torch.zeros(2, 2)}
    found = _of_tasks(outputs, {"a": torch.tensor([NO_LABEL] * 2), "b": torch.tensor([0, 0])})
    row = metrics.tested([found], None)
    assert row["test_accuracy"] == row["test_accuracy_b"] == 1.0
    assert "test_accuracy_a" not in row
    assert "test_loss_a" not in row


def test_gradnorm_waits_for_a_batch_with_all_tasks() -> None:
    """The first losses are its yardstick; a loss of 0 of a task without targets would be a wrong one."""
    state = gradnorm.start(("d", "k"))
    model: Any = type("Model", (), {"tasks": ("d", "k"), "encoder": torch.nn.Conv2d(1, 1, 1)})()
    model.decoders = {task: torch.nn.Conv2d(1, 1, 1) for task in ("d", "k")}
    losses = {task: TASKS[task].mean_loss for task in ("d", "k")}
    x, some = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 4, 4)
    _, after = gradnorm.backward(model, x, {"d": some, "k": some * NAN}, losses, state)
    assert after == state
    _, after = gradnorm.backward(model, x, {"d": some, "k": some}, losses, state)
    assert after.num_calls == 1
