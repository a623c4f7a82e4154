"""One data set made of the samples of several owners, with the owner of each training and test sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor

from raysplit.data.inputs import concatenated
from raysplit.data.samples import DataSet, Samples
from raysplit.data.transforms import ToUnit


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
