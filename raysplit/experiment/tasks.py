"""The task of a run: what the settings and the targets of its data say that the model is to answer."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch import Tensor

from raysplit.data.samples import DataSet, Samples
from raysplit.data.targets.of_samples import check_targets, statistic_of
from raysplit.experiment.several.section import TaskConfig as TaskConfig
from raysplit.experiment.several.section import TaskSettings
from raysplit.experiment.several.tasks import several_tasks
from raysplit.tasks import KINDS, Task, inferred_kind
from raysplit.tasks.checks import described, likely_kinds

logger = logging.getLogger(__name__)


def checked_task(settings: TaskSettings, data: DataSet, shards: Mapping[str, Samples], source: str) -> Task | None:
    """Return the task of a run as `task_of` does, once the targets of all owners and of the test set are checked.

    Those of streamed shards are checked as they are read, and the task takes nothing from them here. ``shards`` are the
    training samples of the owners, in owner order. Raises ``ValueError`` with owner, row and rule.
    """
    task = task_of(settings, data, source)
    if task is None:
        if settings.loss == "cross_entropy":
            _check_labels(data, shards)
        return None
    _tell_stretched(task, data)
    is_here = all(isinstance(shard, Samples) for shard in shards.values())
    for owner, shard in shards.items() if is_here else ():
        check_targets(task, shard, f"y of {owner}")
    check_targets(task, data.test, "y of the test set")
    return task.prepared(statistic_of(task, list(shards.values()))) if is_here else task


def _tell_stretched(task: Task, data: DataSet) -> None:
    """Warn of masks whose sides are in another proportion than those of the pictures."""
    if task.kind != "segmentation" or not isinstance(data.test.y, Tensor) or len(data.input_shape) != 3:
        return
    (height, width), (of_x, of_y) = data.test.y.shape[1:], data.input_shape[1:]
    if height * of_y != width * of_x:
        logger.warning(
            "masks have %d x %d pixels and pictures %d x %d, in another proportion, so that what a model answers is "
            "stretched to the masks; check them",
            height,
            width,
            of_x,
            of_y,
        )


def _check_labels(data: DataSet, shards: Mapping[str, Samples]) -> None:
    """Raise ``ValueError`` for class labels of owners and tests, of a run without a task, that are none."""
    classes = {"y": data.num_classes} if isinstance(data.test.y, Tensor) else {}
    classes |= {} if classes else {name: len(names) for name, names in (data.classes or {}).items()}
    sides = {f"of {owner}": shard for owner, shard in shards.items() if isinstance(shard, Samples)}
    for whose, side in {**sides, "of the test set": data.test}.items():
        for name, count in classes.items():
            y = side.y if isinstance(side.y, Tensor) else side.y.get(name)
            if y is not None and inferred_kind(y) == "classification":
                KINDS["classification"](num_outputs=count).check(y, f"{name} {whose}")


def task_of(settings: TaskSettings, data: DataSet, source: str) -> Task | None:
    """Return the task of a run; None where class labels or dense targets are trained as the loss says.

    Args:
        settings: what the configuration says.
        data: the data of the run.
        source: name of the data, for messages.

    Raises:
        ValueError: the targets do not say what they are, or do not fit the section.
    """
    targets, section, loss = data.train.y, settings.section, settings.loss
    if not isinstance(targets, Tensor):
        if section is None:
            return several_tasks(settings, data, source)
        raise ValueError(
            f"task is {section.kind}, and data {source!r} have a target for each of {', '.join(targets)}; leave it "
            f"out, and say the kind of each with data.tasks: {{{next(iter(targets))}: {section.kind}}}"
        )
    if settings.by_target:
        raise ValueError(
            f"data.tasks names {', '.join(settings.by_target)}, and data {source!r} have one target, y; leave it out, "
            f"and set task"
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
