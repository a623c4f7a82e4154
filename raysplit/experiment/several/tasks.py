"""The task of a run whose samples have several targets, each of a kind of its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from torch import Tensor

from raysplit.data.samples import DataSet
from raysplit.data.targets.arrays import num_outputs
from raysplit.experiment.several.section import TargetTask, TaskSettings
from raysplit.registry import nearest
from raysplit.tasks import KINDS, SeveralTasks, inferred_kind
from raysplit.tasks.checks import described, likely_kinds

logger = logging.getLogger(__name__)


def several_tasks(settings: TaskSettings, data: DataSet, source: str) -> SeveralTasks | None:
    """Return the tasks of samples with several targets, in the order in which they are learned.

    None where ``training.loss`` is enough: class labels of which nothing more is said, and dense targets.

    Args:
        settings: what the configuration says.
        data: the data of the run.
        source: name of the data, for messages.

    Raises:
        ValueError: a target does not say what it is, or a setting names one that there is not.
    """
    targets = _one_row(data)
    given = settings.by_target
    _refuse_unknown(given, targets, source)
    names = [name for name in settings.chosen or targets if name in targets]
    if not given and (settings.loss != "cross_entropy" or _need_no_kind(targets, names)):
        return None
    if settings.loss != "cross_entropy":
        raise ValueError(
            f"training.loss is {settings.loss}, and the tasks {', '.join(given)} have their own; leave training.loss "
            f"out, or set data.tasks: {{{next(iter(given))}: {{loss: ...}}}}"
        )
    sections = {name: given.get(name) or TargetTask(kind=_inferred(name, data, source)) for name in names}
    if told := [f"{name}: {section.kind}" for name, section in sections.items() if name not in given]:
        logger.info("the targets of data %r say their tasks by their types: %s", source, ", ".join(told))
    return SeveralTasks(
        each=tuple((name, section.task(_width(name, section, data))) for name, section in sections.items()),
        weights=tuple(section.weight for section in sections.values()),
    )


def _one_row(data: DataSet) -> Mapping[str, Tensor]:
    """Return the targets of one sample, which have their types and shapes also where samples differ in length."""
    y = data.train.take([0]).y
    assert not isinstance(y, Tensor)
    return y


def _need_no_kind(targets: Mapping[str, Tensor], names: Sequence[str]) -> bool:
    """Whether targets are class labels alone, or dense ones alone, which have losses of their own."""
    by_row = [targets[name].ndim == 1 for name in names]
    return not any(by_row) or all(inferred_kind(targets[name]) == "classification" for name in names)


def _refuse_unknown(given: Mapping[str, TargetTask], targets: Mapping[str, Tensor], source: str) -> None:
    if unknown := [name for name in given if name not in targets]:
        raise ValueError(
            f"data.tasks names {unknown[0]!r}, and data {source!r} have a target for each of {', '.join(targets)}"
            f"{nearest(unknown[0], targets)}; name some of them"
        )


def _inferred(name: str, data: DataSet, source: str) -> str:
    targets = _one_row(data)
    kind = inferred_kind(targets[name])
    if kind is None:
        likely = " or ".join(likely_kinds(targets[name])) or "one of " + ", ".join(KINDS)
        raise ValueError(
            f"the target {name!r} of data {source!r} is {described(targets[name])}, which may be several things; set "
            f"data.tasks: {{{name}: {likely}}}"
        )
    return kind


def _width(name: str, section: TargetTask, data: DataSet) -> int:
    """Return the number of outputs that a task takes: classes, labels, tokens or numbers."""
    kind = section.kind
    if name in data.num_outputs:
        return data.num_outputs[name]
    if kind == "language_model" and "vocab_size" in data.sizes:
        return int(data.sizes["vocab_size"])
    classes = (data.classes or {}).get(name, ())
    if kind == "classification" and classes:
        return len(classes)
    sides = [side.y[name] for side in (data.train, data.test) if not isinstance(side.y, Tensor)]
    return num_outputs(sides, kind, ignore_index=section.ignore_index)
