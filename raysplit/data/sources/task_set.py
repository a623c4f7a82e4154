"""A data set with several labels per picture: what a multi-task model is trained and judged on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from raysplit.data.samples import DataSet, Samples
from raysplit.data.transforms import Transform
from raysplit.seeding import generator


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

    def data_set(self, val_fraction: float = 0.1, seed: int = 0) -> DataSet:
        """The same as a `DataSet`, with a share of the training pictures set aside to choose a checkpoint by.

        The published experiments choose and report on one and the same pictures; ours are three apart. Raises
        ValueError for a share that leaves nothing to train on.
        """
        num_aside = round(val_fraction * len(self.train))
        if not 0 <= num_aside < len(self.train):
            raise ValueError(f"val_fraction is {val_fraction}; set aside a share from 0 to less than 1")
        order = generator(seed, "validation").permutation(len(self.train))
        aside, rest = np.sort(order[:num_aside]), np.sort(order[num_aside:])
        return DataSet(
            train=self.train.take(rest),
            test=self.test,
            val=self.train.take(aside) if num_aside else None,
            num_classes=max(self.num_classes.values()),
            transform=self.transform,
            eval_transform=self.eval_transform,
            classes=self.classes,
        )

    @property
    def num_classes(self) -> dict[str, int]:
        return {task: len(names) for task, names in self.classes.items()}
