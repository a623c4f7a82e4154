"""``data.tasks``: the task of each of several targets, or the option of this name that some data sets have.

The sets of `TASK_SETS` choose by ``tasks`` which of their labels to read, as a list; a mapping does so too, and says
the kind of each. Tables of images take a mapping of columns there, which stays theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from raysplit.data.datasets import takes_option
from raysplit.experiment.several.section import TargetTask, TaskSettings
from raysplit.options import OptionsRefused, explained_value
from raysplit.tasks import SEVERAL, loss_name

if TYPE_CHECKING:
    from raysplit.config.run import RunConfig

HEADS = "multi_task"
"""The model with a head for each task, some of which it may leave out."""
NAMES_COLUMNS = "image_table"
"""The data set whose option ``tasks`` is a mapping of columns."""


class WithTasks(BaseModel):
    """The part of the section ``data`` that says what its targets are."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    tasks: dict[str, TargetTask] | dict[str, str] | tuple[str, ...] | str | None = None
    """Task of each of several targets by its name: a kind (`docs/tasks.md`), or a mapping with ``kind``, ``weight`` and
    the settings of ``task``; without it the types of the targets decide. For data sets that choose among labels of
    their own, their names as a list, or as keys of such a mapping."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _kinds(cls, value: Any, info: ValidationInfo) -> Any:
        if not isinstance(value, Mapping) or info.data.get("name") == NAMES_COLUMNS:
            return value
        found, problems = {}, {}
        for name, given in value.items():
            try:
                found[str(name)] = TargetTask.model_validate({"kind": given} if isinstance(given, str) else given)
            except ValidationError as error:
                problems[str(name)] = explained_value(error)
        if problems:
            raise OptionsRefused(problems, "")
        return found

    @property
    def by_target(self) -> dict[str, TargetTask]:
        """The task of each target that is said."""
        given = self.tasks.items() if isinstance(self.tasks, dict) else ()
        return {name: task for name, task in given if isinstance(task, TargetTask)}

    def for_loader(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options of a data set with the names of its tasks, where it takes them.

        Raises ``ValueError`` for names alone where it does not.
        """
        if self.tasks is None:
            return dict(options)
        takes = takes_option(name, options, "tasks")
        if self.by_target:
            return {**options, "tasks": list(self.by_target)} if takes else dict(options)
        if takes is False:
            raise ValueError(
                f"tasks is {self.tasks}, and {name} has no labels to choose among by name; say the kind of each "
                f"target, such as tasks: {{NAME: regression}}, or leave it out"
            )
        return {**options, "tasks": self.tasks}


def task_settings(config: RunConfig) -> TaskSettings:
    """Return what a configuration says of the tasks of its run."""
    chosen = config.model.options.get("tasks", ()) if config.model.name == HEADS else ()
    return TaskSettings(
        section=config.task, by_target=config.data.by_target, chosen=tuple(chosen), loss=config.training.loss
    )


def loss_of(config: RunConfig) -> str:
    """Return the name of the loss of a run, as far as its settings say it and as methods name losses."""
    if config.task is not None:
        return loss_name(config.task.kind)
    return SEVERAL if config.data.by_target else config.training.loss
