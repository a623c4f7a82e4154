"""dSprites as a multi-task data set: white sprites on black, 64 x 64, five tasks on one picture.

Matthey, Higgins, Hassabis, Lerchner, "dSprites" (2017): 3 shapes, 6 scales, 40 orientations, 32 x and 32 y positions.
Read from a local .npz, either the published one (`imgs`, `latents_classes` with the one color in front) or a packed
one (`imgs_packed`: 512 bytes of 8 pixels per picture, `latents_classes` with the five tasks).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from raysplit.data.failures import reading
from raysplit.data.noise import unit_pixels
from raysplit.data.partition.stratify import stratified_split
from raysplit.data.samples import Samples
from raysplit.data.sources.task_set import TaskSet
from raysplit.seeding import generator

SIDE = 64
TASKS = {"shape": 3, "scale": 6, "orientation": 40, "x": 32, "y": 32}
SHAPES = ("square", "ellipse", "heart")

Bytes = npt.NDArray[np.uint8]


def load_dsprites(
    path: Path,
    *,
    tasks: Sequence[str] = ("scale", "shape"),
    noise: str | None = None,
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int = 0,
) -> TaskSet:
    """Load dSprites; a fifth of the classes of the first task is held out as the test set.

    Args:
        path: an .npz file, or a folder whose first dsprites*.npz is taken.
        tasks: factors to learn, from "shape", "scale", "orientation", "x" and "y".
        noise: noise on training and test pictures, as `noise_named` takes it.
        num_train: number of training pictures to draw; by default all.
        num_test: number of test pictures to draw; by default all.
        seed: seed of the split and of these draws.

    Raises:
        ValueError: for a missing file, another layout, an unknown task or noise, and more pictures than there are.
    """
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks or len(set(tasks)) != len(tasks):
        raise ValueError(f"tasks is {list(tasks)}; name at least one, each once, of {', '.join(TASKS)}")
    if path.is_dir():
        path = next(iter(sorted(path.glob("dsprites*.npz"))), path / "dsprites.npz")
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give the path of a dSprites .npz")
    with reading(path, "give an .npz of dSprites, or fetch it again"), np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files if name in ("imgs_packed", "imgs", "latents_classes")}
        names = archive.files
    layout = next((name for name in ("imgs_packed", "imgs") if name in arrays), None)
    if layout is None or "latents_classes" not in arrays:
        raise ValueError(f"{path} holds {names}; dSprites has imgs (or imgs_packed) and latents_classes")
    pictures = arrays[layout]
    latents = arrays["latents_classes"]
    pixels_per_byte = {"imgs_packed": 8, "imgs": 1}[layout]
    size = pictures[:1].size if pictures.ndim else 0
    if size * pixels_per_byte != SIDE * SIDE or latents.ndim != 2 or latents.shape[1] < len(TASKS):
        raise ValueError(
            f"{path}: {layout} {pictures.shape} and latents {latents.shape} are not {SIDE} x {SIDE} sprites with "
            f"{len(TASKS)} factors; give a dSprites .npz"
        )
    latents = latents[:, -len(TASKS) :]  # without the column of the one color
    _check_values(path, layout, pictures, latents)
    flat, latents = pictures.reshape(len(pictures), -1), latents.astype(np.int64)
    sides = stratified_split(latents[:, list(TASKS).index(tasks[0])], seed)
    train, test = (
        _samples(flat, latents, _drawn(side, count, name, seed), tasks)
        for side, count, name in zip(sides, (num_train, num_test), ("train", "test"), strict=True)
    )
    classes = {task: SHAPES if task == "shape" else tuple(map(str, range(TASKS[task]))) for task in tasks}
    transform = unit_pixels(noise)
    return TaskSet(train=train, test=test, classes=classes, transform=transform, eval_transform=transform)


def _check_values(path: Path, layout: str, pictures: npt.NDArray[Any], latents: npt.NDArray[Any]) -> None:
    """Raise ``ValueError`` for arrays of other types, lengths or values than those of dSprites."""
    if pictures.dtype not in (np.uint8, bool) or latents.dtype.kind not in "ui" or len(latents) != len(pictures):
        raise ValueError(
            f"{path}: {layout} is {pictures.dtype} of {len(pictures)} rows and latents_classes {latents.dtype} of "
            f"{len(latents)}; in dSprites they are uint8 and integers, of as many rows"
        )
    if layout == "imgs" and pictures.size and pictures.max() > 1:
        raise ValueError(f"{path}: imgs has pixels up to {pictures.max()}, and those of dSprites are 0 and 1")
    beyond = (latents < 0) | (latents >= np.array(list(TASKS.values())))
    if beyond.any():
        row, column = np.argwhere(beyond)[0]
        task, count = list(TASKS.items())[column]
        raise ValueError(
            f"{path}: {task} is {latents[row, column]} in row {row}, and dSprites has 0 to {count - 1} of it"
        )


def _samples(flat: Bytes, latents: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], tasks: Sequence[str]) -> Samples:
    chosen = flat[rows]
    white = np.unpackbits(chosen, axis=1) if chosen.shape[1] != SIDE * SIDE else chosen
    gray = torch.from_numpy(white * np.uint8(255)).view(-1, 1, SIDE, SIDE)
    y = {task: torch.from_numpy(latents[rows, list(TASKS).index(task)]) for task in tasks}
    return Samples(x=gray.repeat(1, 3, 1, 1), y=y)  # [N, 3, 64, 64]


def _drawn(side: npt.NDArray[np.int64], count: int | None, name: str, seed: int) -> npt.NDArray[np.int64]:
    if count is None:
        return side
    if not 0 < count <= len(side):
        raise ValueError(f"num_{name} is {count} and there are {len(side)} {name} pictures; give 1 to {len(side)}")
    return np.sort(generator(seed, "dsprites", name).choice(side, size=count, replace=False))
