"""Pictures with one class label per task, for multi-task models, and one data set of the samples of several owners."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from raysplit.data.inputs import concatenated
from raysplit.data.samples import DataSet, Samples
from raysplit.data.transforms import ToUnit, Transform
from raysplit.seeding import generator


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskSet:
    """Training and test pictures with one class label per task.

    Attributes:
        train: training pictures [N, 3, S, S] with labels {task: [N]}.
        test: test pictures with labels of the same tasks.
        classes: class names of each task, in order.
        transform: transform of training batches.
        eval_transform: transform of validation and test batches.

    Raises:
        ValueError: for a side without pictures, or with labels of other tasks than those of `classes`.
    """

    train: Samples
    test: Samples
    classes: Mapping[str, tuple[str, ...]]
    transform: Transform
    eval_transform: Transform

    def __post_init__(self) -> None:
        for side, samples in (("training", self.train), ("test", self.test)):
            if not len(samples):
                raise ValueError(f"the {side} side has no pictures; give both sides at least one")
            if not isinstance(samples.y, Mapping) or list(samples.y) != list(self.classes):
                raise ValueError(
                    f"the {side} labels are not those of the tasks {', '.join(self.classes)}; label these, in order"
                )

    def data_set(self, val_fraction: float = 0.1, seed: int = 0) -> DataSet:
        """Make a `DataSet`, with a share of the training pictures set aside to choose a checkpoint.

        The published experiments choose a checkpoint on the test pictures themselves; here training, validation and
        test pictures are disjoint. Raises ValueError for a share that leaves no training pictures.
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


def pooled(
    train: Mapping[str, Samples], val: Mapping[str, Samples], test: Mapping[str, Samples], *, num_classes: int
) -> DataSet:
    """Concatenate the samples of all owners; inputs are images in 0..1, samples have several targets."""
    owners, test_owners = (
        np.concatenate([np.full(len(samples), name) for name, samples in side.items()]) for side in (train, test)
    )
    has_val = sum(len(samples) for samples in val.values()) > 0
    return DataSet(
        train=_joined(train.values()),
        test=_joined(test.values()),
        num_classes=num_classes,
        transform=ToUnit(),
        eval_transform=ToUnit(),
        natural_owner=owners,
        test_owner=test_owners,
        val=_joined(val.values()) if has_val else None,
    )


def _joined(parts: Iterable[Samples]) -> Samples:
    samples = list(parts)
    targets: list[Mapping[str, Tensor]] = [part.y for part in samples if not isinstance(part.y, Tensor)]
    y = {task: torch.cat([part[task] for part in targets]) for task in targets[0]}
    return Samples(x=concatenated([part.x for part in samples]), y=y)
