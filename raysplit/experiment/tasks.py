"""The section ``task``: what the model is to answer, and the task that it describes for the data of a run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import model_validator
from torch import Tensor

from raysplit.data.samples import DataSet, Samples
from raysplit.data.targets.of_samples import check_targets, statistic_of
from raysplit.schedulers.rules import Rules
from raysplit.tasks import KINDS, Task, inferred_kind, make_task
from raysplit.tasks.checks import described, likely_kinds

logger = logging.getLogger(__name__)

Kind = Literal["classification", "multi_label", "regression", "segmentation", "token_classification", "language_model"]


class TaskConfig(Rules):
    """Learning task, given as its kind or as a mapping. Without it, the targets of the data decide: whole numbers [N]
    are classes, numbers [N] a regression, and whole numbers [N, H, W] masks; other targets need it."""

    kind: Kind
    """What the model answers; see docs/tasks.md."""
    loss: str | None = None
    """Name of the loss, where the kind has several: `mse`, `l1` or `huber` of `regression`; None takes the first."""
    ignore_index: int | None = None
    """Target that is not counted, where targets are classes; None takes 255 for `segmentation` and -100 elsewhere."""
    metrics: tuple[str | dict[str, Any], ...] = ()
    """Further metrics, `torchmetrics:NAME` or mappings with `name`, its arguments, and a `label` for the column."""
    primary: str | None = None
    """Figure that the best round, `target`, `patience`, reports and sweeps follow; None takes that of the kind."""
    mean: tuple[float, ...] = ()
    """Mean of each target of `regression`, which the loss subtracts; by default that of all training targets, which
    owners then say as a sum."""
    std: tuple[float, ...] = ()
    """Standard deviation of each target of `regression`, by which the loss divides; given together with `mean`."""

    @model_validator(mode="after")
    def _fitting(self) -> TaskConfig:
        if self.kind != "regression" and (self.mean or self.std):
            raise ValueError(f"mean and std scale the targets of regression, and kind is {self.kind}; leave them out")
        KINDS[self.kind](num_outputs=max(1, len(self.mean)), **self._options(), **self._primary_of_kind())
        return self

    def _options(self) -> dict[str, Any]:
        given = {"loss": self.loss, "ignore_index": self.ignore_index, "mean": self.mean, "std": self.std}
        return {key: value for key, value in given.items() if value not in (None, ())}

    def _primary_of_kind(self) -> dict[str, Any]:
        """Return the primary metric, unless it may be one of the further ones, which are not looked up yet."""
        return {} if self.primary is None or self.metrics else {"primary": self.primary}

    @property
    def figure(self) -> str:
        """The name of the primary metric."""
        return self.primary or next(iter(KINDS[self.kind].better))

    def task(self, num_outputs: int) -> Task:
        """Return the task for data that need so many outputs. Raises ``ValueError``."""
        primary = {} if self.primary is None else {"primary": self.primary}
        return make_task(self.kind, num_outputs, metrics=self.metrics, **self._options(), **primary)


def checked_task(
    section: TaskConfig | None, data: DataSet, shards: Mapping[str, Samples], *, loss: str, source: str
) -> Task | None:
    """Return the task of a run as `task_of` does, once the targets of all owners and of the test set are checked.

    ``shards`` are the training samples of the owners, in owner order. Raises ``ValueError`` with owner, row and rule.
    """
    task = task_of(section, data, loss=loss, source=source)
    if task is None:
        return None
    if not all(isinstance(shard, Samples) for shard in shards.values()):
        if task.kind == "classification":
            return task
        raise ValueError(
            f"task is {task.kind}, and owners that read their own files have class labels; leave it out, or give the "
            f"data as arrays"
        )
    for owner, shard in shards.items():
        check_targets(task, shard, f"y of {owner}")
    check_targets(task, data.test, "y of the test set")
    return task.prepared(statistic_of(task, list(shards.values())))


def task_of(section: TaskConfig | None, data: DataSet, *, loss: str, source: str) -> Task | None:
    """Return the task of a run; None where class labels or several targets are trained as the loss says.

    Args:
        section: the section ``task``.
        data: the data of the run.
        loss: ``training.loss``.
        source: name of the data, for messages.

    Raises:
        ValueError: the targets do not say what they are, or do not fit the section.
    """
    targets = data.train.y
    if not isinstance(targets, Tensor):
        if section is None:
            return None
        raise ValueError(
            f"task is {section.kind}, and data {source!r} have a target for each of {', '.join(targets)}; leave it out"
        )
    if "y" in data.train.ragged:  # a target for each token
        targets = data.train.take([0]).y
        assert isinstance(targets, Tensor)
    if section is None:
        kind = inferred_kind(targets)
        if kind == "classification" or (kind == "regression" and loss != "cross_entropy"):
            return None
        if kind is None:
            likely = " or ".join(likely_kinds(targets)) or "one of " + ", ".join(KINDS)
            raise ValueError(
                f"the targets of data {source!r} are {described(targets)}, which may be several things; set task to "
                f"{likely}"
            )
        logger.info("the targets of data %r are %s: task: %s", source, described(targets), kind)
        section = TaskConfig(kind=kind)
    if loss != "cross_entropy":
        raise ValueError(
            f"training.loss is {loss}, and the task {section.kind} has its own; leave training.loss out, or set "
            f"task.loss"
        )
    return section.task(data.num_classes)
