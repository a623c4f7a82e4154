"""What an evaluation found, in words: the figures of a row of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raysplit.runs.metric import task_figures

Row = dict[str, Any]


def tested_texts(row: Mapping[str, Any], digits: int) -> list[str]:
    """Format what a round's evaluation found; empty for a round without one."""
    if "primary" in row:
        text = primary_text(dict(row), digits)
        return [f"test {text}" if row["primary_metric"] == "loss" else text]
    if "test_accuracy" in row:
        return [f"accuracy {accuracy_text(dict(row), digits)}"]
    return [f"test loss {loss_text(dict(row), digits)}"] if "test_loss" in row else []


def trained_text(row: Mapping[str, Any], digits: int) -> str:
    """Format the training loss of a round, which is called so where the figure of its evaluation is a loss too."""
    is_one_of_two = any(text.startswith("test loss") for text in tested_texts(row, digits))
    return f"{'train ' if is_one_of_two else ''}loss {loss_number(row.get('train_loss'), digits)}"


def primary_text(row: Row, digits: int) -> str:
    """Format the primary metric of a run's task, and beside it that of a model that ignores its inputs."""
    name = row["primary_metric"]
    naive = f" (naive {_figure(row['primary_naive'], digits)})" if "primary_naive" in row else ""
    own = _own_text(row, f"owner_{name}", digits)
    return f"{name} {_figure(row['primary'], digits)}{own}{naive}{_tasks_text(row, digits)}"


def _tasks_text(row: Row, digits: int) -> str:
    """Format the primary metric of each of several tasks."""
    texts = [f"{each.task} {each.metric} {_figure(each.value, digits)}" for each in task_figures(row)]
    return f", {', '.join(texts)}" if texts else ""


def _figure(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if abs(value) < 10 else f"{value:.4g}"


def accuracy_text(row: Row, digits: int) -> str:
    """Format the test accuracy and, where owners have test samples of their own, what they say.

    ``by owner`` is the mean over the owners for a model that is tested on everybody's samples, and ``majority label``
    the accuracy of guessing an owner's most frequent label.
    """
    control = f" (majority label {row['majority_accuracy']:.{digits}f})" if "majority_accuracy" in row else ""
    return f"{row['test_accuracy']:.{digits}f}{_own_text(row, 'owner_accuracy', digits)}{control}"


def loss_number(loss: float | None, digits: int) -> str:
    """Format a loss; one of a million and more, as of a run that diverges, in the short form ``2.07e+23``."""
    if loss is None:
        return "not told"
    return f"{loss:.{digits}f}" if abs(loss) < 1e6 else f"{loss:.2e}"


def loss_text(row: Row, digits: int) -> str:
    """Format the test loss of tasks without labels as `accuracy_text` does."""
    return f"{loss_number(row['test_loss'], digits)}{_own_text(row, 'owner_loss', digits)}"


def _own_text(row: Row, column: str, digits: int) -> str:
    if row.get("tested_on") == "own":
        return " on own samples"
    return f", by owner {row[column]:.{digits}f}" if column in row else ""
