"""A round's test figures out of the evaluations of the models, whether answers are right or wrong or just near."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raysplit.actors.evaluator import Evaluation


def tested(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Mean accuracy and loss over the models; with dense tasks the total loss over tasks, and each task's own.

    A task that several models answer counts with the mean of its losses.
    """
    if any(evaluation.task_loss_sums for evaluation in evaluations):
        return _task_row(evaluations)
    accuracies = [evaluation.accuracy for evaluation in evaluations]
    losses = [evaluation.loss for evaluation in evaluations]
    row = {"test_accuracy": sum(accuracies) / len(accuracies), "test_loss": sum(losses) / len(losses)}
    return row | ({"min_accuracy": min(accuracies)} if len(accuracies) > 1 else {})


def _task_row(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    losses: dict[str, list[float]] = {}
    for evaluation in evaluations:
        for task, loss in evaluation.task_losses.items():
            losses.setdefault(task, []).append(loss)
    means = {task: sum(values) / len(values) for task, values in losses.items()}
    return {"test_loss": sum(means.values())} | {f"test_loss_{task}": loss for task, loss in means.items()}


def merit(row: dict[str, Any]) -> float | None:
    """What training should raise: the accuracy, or the negative loss where there is none; None before evaluation."""
    if "test_accuracy" in row:
        return float(row["test_accuracy"])
    return -float(row["test_loss"]) if "test_loss" in row else None
