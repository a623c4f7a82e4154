"""Learning tasks: what a model is to answer, by which loss, and how well it does.

* ``task``: `Task`, the record; a file for each kind.
* ``classes``, ``confusion``: what kinds with classes share, and the figures of a confusion matrix.
* ``outputs``: which of a model's outputs is the answer.
* ``checks``: messages about targets that do not fit.
* ``further``: metrics of torchmetrics by name.
* ``several``: several tasks on the same samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from raysplit.tasks.classification import Classification
from raysplit.tasks.further import further
from raysplit.tasks.language_model import LanguageModel
from raysplit.tasks.language_model import next_tokens as next_tokens
from raysplit.tasks.multi_label import MultiLabel
from raysplit.tasks.regression import Regression
from raysplit.tasks.segmentation import Segmentation
from raysplit.tasks.several.joint import SEVERAL as SEVERAL
from raysplit.tasks.several.joint import SeveralTasks as SeveralTasks
from raysplit.tasks.task import ElementTask as ElementTask
from raysplit.tasks.task import Task as Task
from raysplit.tasks.token_classification import TokenClassification

KINDS: dict[str, type[ElementTask]] = {
    kind.kind: kind
    for kind in (Classification, MultiLabel, Regression, Segmentation, TokenClassification, LanguageModel)
}
"""The kinds of tasks by name."""


def loss_name(kind: str) -> str:
    """Return the name of a kind's loss, as methods name those that they can train with."""
    return "cross_entropy" if kind == "classification" else kind


def inferred_kind(targets: Any) -> str | None:
    """Return the kind of task that targets say by their type and shape; None where it has to be said.

    Numbers [N] are a regression, whole numbers [N] classes, and whole numbers [N, H, W] masks.
    """
    if not isinstance(targets, Tensor) or targets.is_complex():
        return None
    if targets.is_floating_point():
        return "regression" if targets.ndim == 1 else None
    return {1: "classification", 3: "segmentation"}.get(targets.ndim)


def make_task(
    kind: str,
    num_outputs: int,
    *,
    metrics: Sequence[str | Mapping[str, Any]] = (),
    **options: Any,
) -> ElementTask:
    """Return the task of a kind for data with so many classes, labels, tokens or numbers.

    Args:
        kind: one of `KINDS`.
        num_outputs: number of outputs that the data need.
        metrics: further metrics, ``torchmetrics:NAME`` or mappings with ``name``, ``label`` and arguments.
        options: further attributes of the record.

    Raises:
        ValueError: an option or a metric does not fit the kind.
    """
    known = {"num_classes": num_outputs, "num_labels": num_outputs, "num_outputs": num_outputs}
    found = []
    for metric in metrics:
        given = {"name": metric} if isinstance(metric, str) else dict(metric)
        name, label = given.pop("name", ""), given.pop("label", None)
        found.append(further(name, given, label, known))
    if len({metric.label for metric in found}) < len(found):
        raise ValueError("task.metrics has the same metric twice; give each a label of its own")
    return KINDS[kind](num_outputs=num_outputs, further=tuple(found), **options)
