"""Samples with several targets, given by owner, as one data set that remembers who holds what."""

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
    """All owners' samples one after the other; inputs are images in 0..1 and stay as they are."""
    owners = np.concatenate([np.full(len(samples), name) for name, samples in train.items()])
    has_val = sum(len(samples) for samples in val.values()) > 0
    return DataSet(
        train=_joined(train.values()),
        test=_joined(test.values()),
        num_classes=num_classes,
        transform=ToUnit(),
        eval_transform=ToUnit(),
        natural_owner=owners,
        val=_joined(val.values()) if has_val else None,
    )


def _joined(parts: Iterable[Samples]) -> Samples:
    samples = list(parts)
    targets: list[Mapping[str, Tensor]] = [part.y for part in samples if not isinstance(part.y, Tensor)]
    y = {task: torch.cat([part[task] for part in targets]) for task in targets[0]}
    return Samples(x=concatenated([part.x for part in samples]), y=y)
