"""Rendered rooms as a federated multi-task data set: one building per owner, disjoint splits, a Parquet cache.

A stand-in for the experiments of Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285, where each client holds one
building of Taskonomy. Unlike there, validation and test images are never training images.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysplit.data.failures import refuse_too_large
from raysplit.data.rendered.room_images import CHANNELS, render
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sources.task_set import pooled
from raysplit.options import SideLength

CHUNK = 8  # images rendered together, few enough for their arrays to fit the processor's cache
NUM_CLASSES = 8  # classes of segmentation, including 0
RENDERING = 1  # version in the file names of the cache; increase it when pictures change

Pictures = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Mean and standard deviation of a target over the training images of all owners, per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Rooms:
    """Samples of each owner.

    `x` is float32 [N, 3, S, S] in 0..1. `y` has the targets by task letter: "s" labels uint8 [N, S, S], the others
    float32 [N, C, S, S], standardized by `scales`.
    """

    train: Mapping[str, Samples]
    val: Mapping[str, Samples]
    test: Mapping[str, Samples]
    scales: Mapping[str, Scale]

    @property
    def owners(self) -> tuple[str, ...]:
        """Names of the owners in the order of their buildings."""
        return tuple(self.train)


def rooms(
    *,
    num_buildings: int = 8,
    num_train: int = 64,
    num_val: int = 16,
    num_test: int = 16,
    image_size: int = 32,
    tasks: tuple[str, ...] = ("s", "d", "n", "k", "t"),
    seed: int = 0,
    cache: Path | None = None,
) -> Rooms:
    """Render the rooms of `num_buildings` owners; see `load_rooms` for the arguments.

    Raises ValueError for unknown tasks and for counts that leave no owner or no training image.
    """
    unknown = [task for task in tasks if task != "s" and task not in CHANNELS]
    if unknown or not tasks:
        raise ValueError(f"tasks must be letters of s{''.join(CHANNELS)}, got {tasks}")
    if num_buildings < 1 or num_train < 1 or min(num_val, num_test) < 0:
        raise ValueError(
            f"num_buildings and num_train must be at least 1, num_val and num_test at least 0; got "
            f"num_buildings={num_buildings}, num_train={num_train}, num_val={num_val}, num_test={num_test}"
        )
    total = num_train + num_val + num_test
    refuse_too_large("the pictures of the rooms", num_buildings * total * 8 * image_size**2)
    splits = np.split(np.arange(total), [num_train, num_train + num_val])
    pictures = {
        f"building-{building:03d}": building_pictures(seed, building, total, image_size, cache)
        for building in range(num_buildings)
    }
    scales = {
        task: _scale(owned[task][:num_train] for owned in pictures.values()) for task in tasks if task in CHANNELS
    }
    train, val, test = (
        {owner: _samples(owned, chosen, tasks, scales) for owner, owned in pictures.items()} for chosen in splits
    )
    return Rooms(train=train, val=val, test=test, scales=scales)


def load_rooms(
    *,
    num_buildings: int = 8,
    num_train: int = 64,
    num_val: int = 16,
    num_test: int = 16,
    image_size: SideLength = 32,
    tasks: str | Sequence[str] = "sdnkt",
    seed: int = 0,
    cache: Path | None = None,
) -> DataSet:
    """Render rooms as one data set whose natural owners are the buildings.

    Args:
        num_buildings: number of buildings, one per owner.
        num_train: training images per building.
        num_val: validation images per building; those of all buildings are pooled.
        num_test: test images per building; those of all buildings are pooled.
        image_size: side of the square images in pixels.
        tasks: letters of the targets, see `raysplit.data.rendered.room_images`.
        seed: seed of all buildings and images.
        cache: folder that keeps rendered pictures as Parquet for later runs.

    Raises:
        ValueError: for unknown tasks and for counts that leave no owner or no training image.
    """
    made = rooms(
        num_buildings=num_buildings,
        num_train=num_train,
        num_val=num_val,
        num_test=num_test,
        image_size=image_size,
        tasks=tuple(tasks),
        seed=seed,
        cache=cache,
    )
    return pooled(made.train, made.val, made.test, num_classes=NUM_CLASSES)


def building_pictures(seed: int, building: int, num_images: int, image_size: int, cache: Path | None) -> Pictures:
    """Return the first images of a building with all targets, from `cache` or else rendered and stored there."""
    if cache is None:
        return _render_all(seed, building, num_images, image_size)
    name = f"rooms-v{RENDERING}-seed{seed}-building{building}-{num_images}x{image_size}px.parquet"
    if not (cache / name).exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = cache / f".{os.getpid()}-{name}"
        pq.write_table(
            _to_table(_render_all(seed, building, num_images, image_size)),
            partial,
            compression="zstd",
            write_page_checksum=True,
        )
        partial.replace(cache / name)  # in one step, so that no other process reads half a file
    return _from_table(pq.read_table(cache / name, page_checksum_verification=True), image_size)


def _render_all(seed: int, building: int, num_images: int, image_size: int) -> Pictures:
    starts = range(0, num_images, CHUNK)
    chunks = [render(seed, building, range(at, min(at + CHUNK, num_images)), image_size) for at in starts]
    return {letter: np.concatenate([chunk[letter] for chunk in chunks]) for letter in chunks[0]}


def _to_table(pictures: Pictures) -> pa.Table:
    """Make a table with one row per image and, for each letter, a column of its pixels in order."""
    columns = {
        letter: pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values[0].size)
        for letter, values in pictures.items()
    }
    return pa.table(columns)


def _from_table(table: pa.Table, image_size: int) -> Pictures:
    pictures = {}
    for letter in table.column_names:
        flat = table[letter].combine_chunks().flatten().to_numpy()
        channels = () if letter == "s" else (CHANNELS[letter],)
        pictures[letter] = flat.reshape(-1, *channels, image_size, image_size)
    return pictures


def _scale(parts: Iterable[NDArray[np.generic]]) -> Scale:
    """Mean and standard deviation per channel, the latter 1 for a constant channel."""
    moments = [
        (part.shape[0], part.mean((0, 2, 3), np.float64), (part.astype(np.float64) ** 2).mean((0, 2, 3)))
        for part in parts
    ]
    counts = np.array([count for count, _, _ in moments]) / sum(count for count, _, _ in moments)
    mean = counts @ np.stack([first for _, first, _ in moments])
    variance = counts @ np.stack([second for _, _, second in moments]) - mean**2
    std = np.sqrt(np.maximum(variance, 0))
    return Scale(mean=tuple(mean.tolist()), std=tuple(np.where(std > 0, std, 1.0).tolist()))


def _samples(
    pictures: Pictures, chosen: NDArray[np.int64], tasks: tuple[str, ...], scales: Mapping[str, Scale]
) -> Samples:
    y = {}
    for task in tasks:
        values = torch.from_numpy(pictures[task][chosen])
        y[task] = _standardized(values, scales[task]) if task in scales else values
    return Samples(x=torch.from_numpy(pictures["a"][chosen]), y=y)


def _standardized(values: Tensor, scale: Scale) -> Tensor:
    mean, std = (values.new_tensor(numbers).view(1, -1, 1, 1) for numbers in (scale.mean, scale.std))
    return (values - mean) / std
