"""A data set with several labels per picture: what a multi-task model is trained and judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raysplit.data.samples import Samples
from raysplit.data.transforms import Transform


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskSet:
    """Training and test pictures [N, 3, S, S], labels {task: [N]} and per task the names of its classes, in order.

    `transform` makes model input of a training batch, `eval_transform` of a test batch. Raises ValueError for a side
    without pictures or whose labels are not those of `classes`.
    """

    train: Samples
    test: Samples
    classes: Mapping[str, tuple[str, ...]]
    transform: Transform
    eval_transform: Transform

    def __post_init__(self) -> None:
        for side, samples in (("training", self.train), ("test", self.test)):
            if not len(samples):
                raise ValueError(f"the {side} side has no pictures; both sides need at least one")
            if not isinstance(samples.y, Mapping) or list(samples.y) != list(self.classes):
                raise ValueError(f"the {side} labels are not those of the tasks {', '.join(self.classes)}")

    @property
    def num_classes(self) -> dict[str, int]:
        return {task: len(names) for task, names in self.classes.items()}
