"""Test metrics of a round, and the rules for the best round and for early stopping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from raysplit.actors.evaluator import Evaluation
from raysplit.experiment.rules import EvaluationRules


def tested(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Return the mean accuracy and loss over the models; with several tasks, the total loss and the loss of each task.

    The metrics of a task that several models answer are the means over these models. Where tasks have class labels, the
    accuracy is the mean over the tasks.
    """
    if any(evaluation.task_loss_sums for evaluation in evaluations):
        return _task_row(evaluations)
    accuracies = [evaluation.accuracy for evaluation in evaluations if evaluation.num_correct is not None]
    losses = [evaluation.loss for evaluation in evaluations]
    row = {"test_accuracy": sum(accuracies) / len(accuracies)} if accuracies else {}
    row |= {"test_loss": sum(losses) / len(losses)}
    return row | ({"min_accuracy": min(accuracies)} if len(accuracies) > 1 else {})


def _task_row(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    losses = _means([evaluation.task_losses for evaluation in evaluations])
    right = _means([evaluation.task_accuracies for evaluation in evaluations])
    row = {"test_accuracy": sum(right.values()) / len(right)} if right else {}
    row |= {f"test_accuracy_{task}": share for task, share in right.items()}
    return row | {"test_loss": sum(losses.values())} | {f"test_loss_{task}": loss for task, loss in losses.items()}


def _means(of_models: Sequence[Mapping[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for by_task in of_models:
        for task, value in by_task.items():
            values.setdefault(task, []).append(value)
    return {task: sum(found) / len(found) for task, found in values.items()}


def is_best(before: Sequence[dict[str, Any]], row: dict[str, Any]) -> bool:
    """Return whether a row has an evaluation that is better than all before it."""
    found = merit(row)
    return found is not None and all(found > other for r in before if (other := merit(r)) is not None)


def merit(row: dict[str, Any]) -> float | None:
    """Return the value to maximize: accuracy, or negative loss where there is none; None without an evaluation."""
    if "test_accuracy" in row:
        return float(row["test_accuracy"])
    return -float(row["test_loss"]) if "test_loss" in row else None


def stop_reason(rows: Sequence[dict[str, Any]], rules: EvaluationRules) -> str | None:
    """Return why a run should stop before its last round; None where it should not."""
    evaluated = [value for row in rows if (value := merit(row)) is not None]
    if not evaluated or merit(rows[-1]) is None:
        return None
    target, patience = rules.target_accuracy, rules.patience
    if target is not None and rows[-1].get("test_accuracy", 0.0) >= target:
        return f"target accuracy {target:g} reached"
    if patience is not None and len(evaluated) > patience and max(evaluated[-patience:]) <= max(evaluated[:-patience]):
        return f"no better {'accuracy' if 'test_accuracy' in rows[-1] else 'loss'} in {patience} evaluations"
    return None
