"""The outline of one owner's data: types, shapes, names and counts, made where the data lie; no sample is in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from raysplit.data.by_owner.source import Opened
from raysplit.data.inputs import UNNAMED, Input
from raysplit.data.samples import Samples
from raysplit.data.sequences.masks import MASK
from raysplit.data.sequences.ragged import Ragged
from raysplit.data.targets.of_samples import statistic_of
from raysplit.tasks import SeveralTasks, Task, inferred_kind
from raysplit.tasks.task import Sums


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Type and shape of one sample as it is stored; in the shape of samples that differ in length, None comes first."""

    dtype: torch.dtype
    shape: tuple[int | None, ...]
    pad: float = 0

    def __str__(self) -> str:
        return f"{str(self.dtype).removeprefix('torch.')} {list(self.shape)}"


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What the coordinator is told of one owner's data.

    Attributes:
        num_train: number of training samples.
        num_test: number of test samples.
        inputs: records of the model's inputs by name, behind the transform.
        x: inputs as they are stored, by name; one without a name is ``x``.
        y: targets as they are stored, by task; without tasks ``y``.
        has_names: whether inputs, and whether targets, have names.
        num_classes: number of classes or outputs that the data need.
        num_outputs: the same of each task, where samples have several targets.
        counts: samples of each class by side, for one class label per sample.
        label_names: the label that each class had, where labels were renumbered.
        classes: class names of each task.
        sizes: further sizes that a model is built for.
        longest: length of the longest sample, for samples that differ in length.
        done: what was done with the inputs, in words.
        statistic: sums of the training targets that the task of the run needs; None where it needs none.
        digest: digest of the samples, by which a source that has changed is found.
    """

    num_train: int
    num_test: int
    inputs: Mapping[str, Input]
    x: Mapping[str, Stored]
    y: Mapping[str, Stored]
    has_names: tuple[bool, bool]
    num_classes: int
    num_outputs: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    label_names: tuple[str, ...] | None = None
    classes: Mapping[str, tuple[str, ...]] | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)
    longest: int | None = None
    done: tuple[str, ...] = ()
    statistic: Sums | None = None
    digest: str

    @property
    def numbered(self) -> dict[str, int]:
        """The number of classes of each task whose classes have numbers for names."""
        classes = (self.classes or {}).items()
        return {task: len(names) for task, names in classes if names == _numbers(len(names))}

    @property
    def counts_classes(self) -> bool:
        """Whether there is one class label per sample, whose number was found by counting."""
        return bool(self.counts)


def outline_of(opened: Opened, task: Task | None = None) -> Outline:
    """Describe data where they lie, with what the task of the run needs of the training targets."""
    statistic = statistic_of(task.stated, [opened.train]) if task is not None and task.takes_statistic else None
    outputs = {name: own.num_outputs for name, own in task.each} if isinstance(task, SeveralTasks) else {}
    data, test = opened.data, opened.test
    counts = {}
    if isinstance(test.y, Tensor) and inferred_kind(test.y) == "classification" and "y" not in test.ragged:
        counts = {"test": _counts(test.y, data.num_classes)}
        if isinstance(opened.train, Samples) and isinstance(opened.train.y, Tensor):
            counts = {"train": _counts(opened.train.y, data.num_classes), **counts}
    sides = [side for side in (opened.train, test) if isinstance(side, Samples)]
    return Outline(
        num_train=len(opened.train),
        num_test=len(test),
        inputs=dict(data.inputs),
        x=_stored(test.x, UNNAMED, test.ragged),
        y=_stored(test.y, "y", test.ragged),
        has_names=(not isinstance(test.x, Tensor), not isinstance(test.y, Tensor)),
        num_classes=data.num_classes,
        num_outputs=outputs,
        counts=counts,
        label_names=data.label_names,
        classes=data.classes,
        sizes=dict(data.sizes),
        longest=max((r.longest for side in sides for r in side.ragged.values()), default=None),
        done=data.done,
        statistic=statistic,
        digest=opened.digest,
    )


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _counts(y: Tensor, num_classes: int) -> tuple[int, ...]:
    return tuple(torch.bincount(y[y >= 0], minlength=num_classes).tolist())


def _named(values: Any, unnamed: str) -> dict[str, Tensor]:
    return {unnamed: values} if isinstance(values, Tensor) else dict(values)


def _stored(values: Any, unnamed: str, ragged: Mapping[str, Ragged]) -> dict[str, Stored]:
    return {
        name: Stored(
            dtype=value.dtype,
            shape=(*([None] if name in ragged else []), *value.shape[1:]),
            pad=ragged[name].pad if name in ragged else 0,
        )
        for name, value in _named(values, unnamed).items()
    }


def blank_samples(outline: Outline) -> Samples:
    """Return one sample of the types and shapes of an owner's, of zeros; masks are 1, and lengths are 1."""
    ragged = {
        name: Ragged(offsets=torch.tensor([0, 1]), pad=stored.pad)
        for name, stored in (outline.x | outline.y).items()  # type: ignore[operator]
        if None in stored.shape
    }

    def blank(name: str, stored: Stored) -> Tensor:
        shape = [1, *(size for size in stored.shape if size is not None)]
        return torch.full(shape, int(name == MASK)).to(stored.dtype)

    x = {name: blank(name, stored) for name, stored in outline.x.items()}
    y = {name: blank(name, stored) for name, stored in outline.y.items()}
    has_inputs, has_tasks = outline.has_names
    return Samples(x=x if has_inputs else x[UNNAMED], y=y if has_tasks else y["y"], ragged=ragged)
