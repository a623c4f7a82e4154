"""The primary metric with its direction: when to stop, which round is the best, and what a target is."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from raysplit.experiment.rules import EvaluationRules
from raysplit.runs.metric import to_targets
from raysplit.training.metrics import is_best, stop_reason


def rows(*values: tuple[float, float]) -> list[dict[str, Any]]:
    """Evaluations with these accuracies and losses."""
    return [
        {"test_accuracy": a, "test_loss": b, "steps_total": i + 1, "bytes_total": i} for i, (a, b) in enumerate(values)
    ]


def dense(*losses: float) -> list[dict[str, Any]]:
    return [{"test_loss": loss, "steps_total": i + 1, "bytes_total": i} for i, loss in enumerate(losses)]


def test_a_falling_loss_is_progress_while_accuracy_stands() -> None:
    """A run whose test loss fell in every round was stopped, because its accuracy stood at the same value."""
    standing = rows((0.5, 0.9), (0.5, 0.8), (0.5, 0.7), (0.5, 0.6))
    assert stop_reason(standing, EvaluationRules(patience=2)) is None
    assert is_best(standing[:3], standing[3], EvaluationRules())
    both = rows((0.5, 0.6), (0.5, 0.6), (0.5, 0.7))
    assert stop_reason(both, EvaluationRules(patience=2)) == "no better accuracy in 2 evaluations"


def test_accuracy_goes_before_loss_unless_the_loss_is_asked_for() -> None:
    confident = rows((0.8, 0.5), (0.7, 0.4), (0.75, 0.3))
    assert stop_reason(confident, EvaluationRules(patience=2)) == "no better accuracy in 2 evaluations"
    assert stop_reason(confident, EvaluationRules(patience=2, metric="loss")) is None
    assert not is_best(confident[:2], confident[2], EvaluationRules())
    assert is_best(confident[:2], confident[2], EvaluationRules(metric="loss"))
    overfit = rows((0.7, 0.3), (0.8, 0.4), (0.9, 0.5))
    assert stop_reason(overfit, EvaluationRules(patience=2, metric="loss")) == "no better loss in 2 evaluations"
    assert stop_reason(overfit, EvaluationRules(patience=2)) is None


def test_the_loss_of_tasks_without_labels_is_better_when_lower() -> None:
    assert stop_reason(dense(3.0, 2.0, 1.0), EvaluationRules(patience=2)) is None
    assert stop_reason(dense(1.0, 2.0, 3.0), EvaluationRules(patience=2)) == "no better loss in 2 evaluations"
    assert is_best(dense(3.0), dense(2.0)[0], EvaluationRules())
    assert stop_reason(dense(3.0, 1.5), EvaluationRules(target_loss=1.5)) == "target loss 1.5 reached"
    assert stop_reason(dense(3.0, 1.6), EvaluationRules(target_loss=1.5)) is None


def test_rounds_without_evaluation_do_not_count() -> None:
    assert stop_reason([*rows((0.5, 1.0)), {}, {}], EvaluationRules(patience=1)) is None
    assert not is_best([], {}, EvaluationRules())


def test_targets_are_values_of_the_metric() -> None:
    assert to_targets(dense(3.0, 2.0, 1.0), (2.5, 0.5))["steps_to_target"] == {"2.5": 2, "0.5": None}
    falling = rows((0.5, 0.9), (0.4, 0.2))
    assert to_targets(falling, (0.3,))["steps_to_target"] == {"0.3": 1}
    assert to_targets(falling, (0.3,), "loss")["steps_to_target"] == {"0.3": 2}


def test_another_metric_is_refused() -> None:
    with pytest.raises(ValidationError):
        EvaluationRules(metric="f1")  # type: ignore[arg-type]
