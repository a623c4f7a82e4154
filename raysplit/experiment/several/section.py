"""The settings of a task: the section ``task``, that of one of several targets, and all of them together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from raysplit.registry import one_of
from raysplit.schedulers.rules import Rules
from raysplit.tasks import KINDS, ElementTask, make_task

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

    _known = field_validator("kind", mode="before")(lambda cls, value: _kind(value))

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

    def task(self, num_outputs: int) -> ElementTask:
        """Return the task for data that need so many outputs. Raises ``ValueError``."""
        primary = {} if self.primary is None else {"primary": self.primary}
        return make_task(self.kind, num_outputs, metrics=self.metrics, **self._options(), **primary)


def _kind(value: Any) -> Any:
    """Raise ``ValueError``, with the nearest name, for a text that is no kind."""
    return one_of("kind of task", value, KINDS) if isinstance(value, str) else value


class TargetTask(TaskConfig):
    """Task of one of several targets, given as its kind or as a mapping."""

    weight: float = Field(default=1.0, ge=0)
    """Weight of its mean loss in the sum over the tasks."""


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """What a configuration says of the tasks of a run.

    Attributes:
        section: the section ``task``.
        by_target: the task of each of several targets, where it is said.
        chosen: names of the targets to learn; none takes all.
        loss: ``training.loss``.
    """

    section: TaskConfig | None = None
    by_target: Mapping[str, TargetTask] = field(default_factory=dict)
    chosen: tuple[str, ...] = ()
    loss: str = "cross_entropy"
