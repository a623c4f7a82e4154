"""Taskonomy, read from its folders: one building for each owner, and splits that share no image.

Zamir et al., "Taskonomy", CVPR 2018, arXiv 1804.08328; layout and normalization as used by Zhuang et al., "MAS",
ICCV 2023, arXiv 2307.11285:

    ROOT/rgb/BUILDING/point_P_view_V_domain_rgb.png
    ROOT/depth_zbuffer/BUILDING/point_P_view_V_domain_depth_zbuffer.png     and so on for each task
    ROOT/mask/BUILDING/...                                                  optional, white where targets are valid

Unlike there, validation images (the first by name) and test images (the next ones) are never training images. Images
are read when a batch needs them: a `TaskonomyFolder` has `len` and `take` like `Samples`. The target of a pixel without
a valid one is NaN, or label 0 for segmentation; an image without a file for a task has no valid pixel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from raysplit.data.failures import reading
from raysplit.data.labels import has_target
from raysplit.data.samples import DataSet, Indices, Samples
from raysplit.data.sources.task_set import pooled
from raysplit.options import SideLength

FOLDER_OF = {
    "s": "segment_semantic",
    "d": "depth_zbuffer",
    "n": "normal",
    "k": "keypoints2d",
    "t": "edge_texture",
    "e": "edge_occlusion",
    "r": "reshading",
    "c": "principal_curvature",
    "a": "rgb",
}
CHANNELS = {"n": 3, "c": 2, "a": 3}  # of targets; the others have one
MASKED = "dnerc"
NUM_CLASSES = 18  # classes of segmentation, including 0
FARTHEST_DEPTH = 2**13  # raw depths from here on are missing
OFFSET_AND_SCALE = {"d": (1500.0, 1000.0), "k": (50.0, 100.0), "t": (718.0, 1070.0), "e": (56.0248, 239.1265)}
RESHADING = (0.4962, 0.2846)
CURVATURE_MEAN, CURVATURE_STD = (0.5175, 0.4987), (0.1373, 0.0359)

_REPAIR = "repair the picture, or take the view out of all folders"

Pixels = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class TaskonomyFolder:
    """Some images of one building.

    Attributes:
        root: folder of Taskonomy.
        rgb: paths of the images below ROOT/rgb.
        tasks: letters of the targets to read.
        image_size: side in pixels to which pictures are scaled.
    """

    root: Path
    rgb: tuple[Path, ...]
    tasks: tuple[str, ...]
    image_size: int

    def __len__(self) -> int:
        return len(self.rgb)

    def take(self, indices: Sequence[int] | Indices | Tensor) -> Samples:
        """Read images: `x` float32 [N, 3, S, S] in 0..1, and `y` by task, as the losses of the tasks take them."""
        paths = [self.rgb[int(index)] for index in indices]
        x = np.stack([self._read("a", path) for path in paths])
        valid = [self._valid(path) for path in paths]
        y = {}
        for task in self.tasks:
            targets = np.stack([self._target(task, path) for path in paths])
            if task in MASKED:
                targets = np.where(np.stack(valid), targets, np.float32(np.nan))
            y[task] = torch.from_numpy(targets[:, 0].astype(np.uint8) if task == "s" else targets)
        return Samples(x=torch.from_numpy(x), y=y)

    def _path(self, folder: str, rgb: Path) -> Path:
        return self.root / folder / rgb.parent / rgb.name.replace("domain_rgb", f"domain_{folder}")

    def _read(self, task: str, rgb: Path) -> Pixels:
        return read_pixels(self._path(FOLDER_OF[task], rgb), self.image_size, labels=task == "s")

    def _target(self, task: str, rgb: Path) -> Pixels:
        if not self._path(FOLDER_OF[task], rgb).exists():
            shape = (CHANNELS.get(task, 1), self.image_size, self.image_size)
            return np.full(shape, 0 if task == "s" else np.nan, np.float32)
        return normalise(task, self._read(task, rgb))

    def _valid(self, rgb: Path) -> NDArray[np.bool_]:
        """Return where targets are valid [1, S, S]: by the mask, without it by the depth, without both everywhere."""
        mask, depth = self._path("mask", rgb), self._path(FOLDER_OF["d"], rgb)
        size = (self.image_size, self.image_size)
        if mask.exists():
            return all_valid(_open(mask)[..., 0] > 0, size)
        if depth.exists():
            return all_valid(_open(depth)[..., 0] < FARTHEST_DEPTH, size)
        return np.ones((1, *size), dtype=bool)


def all_valid(valid: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Resize a mask [H, W] to [1, *size]; a pixel is valid if all the pixels it is made of are."""
    share = Image.fromarray(valid.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(share)[None] > 0.999


def _open(path: Path) -> Pixels:
    with reading(path, _REPAIR), Image.open(path) as picture:
        pixels = np.asarray(picture, dtype=np.float32)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def read_pixels(path: Path, image_size: int, *, labels: bool) -> Pixels:
    """Read one picture [C, S, S]: colors in 0..1, single-channel files with their raw numbers.

    It is resized bilinearly, or to the nearest pixel for `labels`, which must not be mixed.
    """
    with reading(path, _REPAIR), Image.open(path) as picture:
        is_color = picture.mode in ("RGB", "RGBA")
        single = picture.convert("RGB") if is_color else picture.convert("F")
        resample = Image.Resampling.NEAREST if labels else Image.Resampling.BILINEAR
        pixels = np.asarray(single.resize((image_size, image_size), resample), dtype=np.float32)
    return pixels.transpose(2, 0, 1) / np.float32(255) if is_color else pixels[None]


def normalise(task: str, raw: Pixels) -> Pixels:
    """Normalize the pixels of a task's file to targets [C, S, S], with the published constants."""
    if task in OFFSET_AND_SCALE:
        offset, scale = OFFSET_AND_SCALE[task]
        return np.asarray((raw - offset) / scale, dtype=np.float32)
    if task == "n":
        return 2 * raw - 1
    if task == "r":
        return np.asarray((raw.mean(axis=0, keepdims=True) - RESHADING[0]) / RESHADING[1], dtype=np.float32)
    if task == "c":
        mean, std = (np.array(numbers)[:, None, None] for numbers in (CURVATURE_MEAN, CURVATURE_STD))
        return np.asarray((raw[:2] - mean) / std, dtype=np.float32)
    return raw


@dataclass(frozen=True, kw_only=True)
class Taskonomy:
    """Training, validation and test images of each owner, by the name of the building."""

    train: Mapping[str, TaskonomyFolder]
    val: Mapping[str, TaskonomyFolder]
    test: Mapping[str, TaskonomyFolder]


def taskonomy(
    root: Path,
    *,
    buildings: tuple[str, ...],
    tasks: tuple[str, ...] = ("s", "d", "n", "k", "t"),
    image_size: int = 256,
    num_val: int = 100,
    num_test: int = 1000,
) -> Taskonomy:
    """Split the images of each building by name: the first for validation, the next for the test, the rest to train.

    Raises ValueError when a task is unknown, a folder is missing or a building has no training image left.
    """
    unknown = [task for task in tasks if task not in FOLDER_OF]
    if unknown or not tasks:
        raise ValueError(f"tasks must be letters of {''.join(FOLDER_OF)}, got {tasks}")
    sides: tuple[dict[str, TaskonomyFolder], ...] = ({}, {}, {})
    for building in buildings:
        for folder in dict.fromkeys(["rgb", *(FOLDER_OF[task] for task in tasks)]):
            if not (root / folder / building).is_dir():
                raise ValueError(f"{root / folder / building} is missing; lay Taskonomy out as ROOT/{folder}/BUILDING")
        images = tuple(sorted(path.relative_to(root / "rgb") for path in (root / "rgb" / building).glob("*.png")))
        if len(images) <= num_val + num_test:
            raise ValueError(
                f"{building} has {len(images)} images; {num_val} for validation and {num_test} for the test leave "
                "none to train on, so lower num_val or num_test"
            )
        parts = (images[num_val + num_test :], images[:num_val], images[num_val : num_val + num_test])
        for side, part in zip(sides, parts, strict=True):
            side[building] = TaskonomyFolder(root=root, rgb=part, tasks=tasks, image_size=image_size)
    train, val, test = sides
    return Taskonomy(train=train, val=val, test=test)


def load_taskonomy(
    root: Path,
    *,
    buildings: Sequence[str],
    tasks: str | Sequence[str] = "sdnkt",
    image_size: SideLength = 256,
    num_train: int | None = None,
    num_val: int = 100,
    num_test: int = 1000,
) -> DataSet:
    """Load Taskonomy into memory as one data set whose natural owners are the buildings.

    Args:
        root: folder of Taskonomy.
        buildings: names of the buildings, one per owner.
        tasks: letters of the targets.
        image_size: side in pixels to which pictures are scaled; at 256 an image with five tasks takes 3 MB.
        num_train: training images per building, evenly spaced over those it has; by default all.
        num_val: validation images per building; those of all buildings are pooled.
        num_test: test images per building; those of all buildings are pooled.

    Raises:
        ValueError: when a task is unknown, a folder is missing or a building has no training image left.
    """
    made = taskonomy(
        root,
        buildings=tuple(buildings),
        tasks=tuple(tasks),
        image_size=image_size,
        num_val=num_val,
        num_test=num_test,
    )
    train = {name: folder.take(_spread(len(folder), num_train)) for name, folder in made.train.items()}
    val, test = (
        {name: folder.take(range(len(folder))) for name, folder in side.items()} for side in (made.val, made.test)
    )
    data = pooled(train, val, test, num_classes=NUM_CLASSES)
    assert not isinstance(data.train.y, Tensor)
    if empty := [task for task, targets in data.train.y.items() if not has_target(targets).any()]:
        raise ValueError(
            f"no training image has a target for the task {empty[0]}; put files into {root / FOLDER_OF[empty[0]]}, or "
            f"leave the task out"
        )
    return data


def _spread(total: int, wanted: int | None) -> Indices:
    """Return the indices 0..total-1, or `wanted` of them, evenly spaced."""
    count = total if wanted is None else min(wanted, total)
    return (np.arange(count) * total) // max(1, count)
