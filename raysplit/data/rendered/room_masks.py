"""Rendered rooms for segmentation: pictures with one class for each pixel, one building per owner.

The pictures are those of the data set ``rooms``: floor, ceiling, wall and four kinds of solid are classes 1 to 7, and
0 is never used.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from raysplit.data.rendered.rooms import NUM_CLASSES, rooms
from raysplit.data.samples import DataSet, Samples
from raysplit.data.transforms import ToUnit
from raysplit.options import SideLength


def load_room_masks(
    *,
    num_buildings: int = 6,
    num_train: int = 48,
    num_test: int = 16,
    image_size: SideLength = 32,
    seed: int = 0,
    cache: Path | None = None,
) -> DataSet:
    """Render rooms with masks, whose natural owners are the buildings.

    Args:
        num_buildings: number of buildings, one per owner.
        num_train: training pictures per building.
        num_test: test pictures per building.
        image_size: side of the square pictures in pixels.
        seed: seed of all buildings and pictures.
        cache: folder that keeps rendered pictures as Parquet for later runs.

    Raises:
        ValueError: for counts that leave no owner, or no picture of a side.
    """
    if num_test < 1:
        raise ValueError(f"num_test is {num_test}; give each building at least one test picture")
    made = rooms(
        num_buildings=num_buildings,
        num_train=num_train,
        num_val=0,
        num_test=num_test,
        image_size=image_size,
        tasks=("s",),
        seed=seed,
        cache=cache,
    )
    train, train_owner = _pooled(made.train)
    test, test_owner = _pooled(made.test)
    return DataSet(
        train=train,
        test=test,
        num_classes=NUM_CLASSES,
        transform=ToUnit(),
        eval_transform=ToUnit(),
        natural_owner=train_owner,
        test_owner=test_owner,
    )


def _pooled(by_owner: Mapping[str, Samples]) -> tuple[Samples, np.ndarray]:
    """Join the samples of all buildings, and return the building of each."""
    masks = [_masks(samples) for samples in by_owner.values()]
    owners = np.concatenate([np.full(len(samples), owner) for owner, samples in by_owner.items()])
    return Samples.concatenated(masks), owners


def _masks(samples: Samples) -> Samples:
    assert isinstance(samples.y, Mapping)
    masks: Tensor = samples.y["s"]
    return Samples(x=samples.x, y=masks)
