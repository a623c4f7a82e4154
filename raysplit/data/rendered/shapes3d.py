"""3D Shapes as a multi-task data set, from the published file where there is one, otherwise rendered.

Burgess & Kim, "3D Shapes" (2018), with the tasks, split and noise of Capogrosso et al., "MTL-Split" (2024, arXiv
2407.05982). A picture is a function of its number alone, so only the requested pictures are rendered.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch

from raysplit.data.failures import reading
from raysplit.data.noise import unit_pixels
from raysplit.data.rendered.shapes3d_grid import FACTORS, GRIDS, Grid, Indices
from raysplit.data.rendered.shapes3d_render import IMAGE_SIZE, Pictures, Weights, color_in, hue_color, weights
from raysplit.data.samples import Samples
from raysplit.data.sources.task_set import TaskSet
from raysplit.seeding import generator

logger = logging.getLogger(__name__)

H5_NAME = "3dshapes.h5"
RENDERING = "rendered-v1"
BLOCK_SIZE = 480  # in the full grid all geometries of one triple of hues
PICTURE_BYTES = IMAGE_SIZE * IMAGE_SIZE * 3
_FETCH = "fetch 3dshapes.h5 again"
PAPER_TASKS = ("scale", "shape")


class PictureSource(Protocol):
    """A source of pictures: numbers [N] in, uint8 [N, 64, 64, 3] out, in that order."""

    def pictures(self, indices: Indices) -> Pictures: ...


class Rendered:
    """A source that renders pictures on request and keeps the traced geometries (at most 480 of 64 KiB)."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self._traced: dict[tuple[int, int, int], Weights] = {}

    def pictures(self, indices: Indices) -> Pictures:
        factors = self.grid.factors(indices)
        out = np.empty((len(indices), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        kinds, kind_of = np.unique(factors[:, 3:], axis=0, return_inverse=True)
        for kind, (scale, shape, orientation) in enumerate(kinds.tolist()):
            rows = np.flatnonzero(kind_of == kind)
            colors = [[hue_color(self.grid.hue(k, f[k])) for k in range(3)] for f in factors[rows].tolist()]
            out[rows] = color_in(self._weights(scale, shape, orientation), np.array(colors, np.float32))
        return out

    def _weights(self, scale: int, shape: int, orientation: int) -> Weights:
        key = (scale, shape, orientation)
        if key not in self._traced:
            self._traced[key] = weights(self.grid.geometry(*key))
        return self._traced[key]


class BlockCache:
    """A cache of another source in Arrow files of `block_size` consecutive pictures, each written at first use.

    It pays where whole ranges are read repeatedly; scattered numbers make it write many blocks for few pictures.
    """

    def __init__(self, source: PictureSource, num_pictures: int, folder: Path, block_size: int = BLOCK_SIZE) -> None:
        self.source, self.num_pictures, self.folder, self.block_size = source, num_pictures, folder, block_size
        folder.mkdir(parents=True, exist_ok=True)

    def pictures(self, indices: Indices) -> Pictures:
        return _by_block(indices, self.block_size, self._block)

    def _block(self, block: int) -> Pictures:
        path = self.folder / f"{block:06d}.arrow"
        if not path.exists():
            self._write(path, block)
        try:
            with pa.memory_map(str(path)) as file:
                column = pa.ipc.open_file(file).read_all()["picture"].combine_chunks()
                raw = np.frombuffer(column.buffers()[1], np.uint8)
                return raw.reshape(-1, IMAGE_SIZE, IMAGE_SIZE, 3).copy()
        except (pa.ArrowInvalid, ValueError, KeyError) as error:
            raise ValueError(
                f"{path} is not a block of pictures ({error}); delete it, and it is written again"
            ) from error

    def _write(self, path: Path, block: int) -> None:
        first = block * self.block_size
        numbers = np.arange(first, min(first + self.block_size, self.num_pictures), dtype=np.int64)
        raw = pa.py_buffer(self.source.pictures(numbers).tobytes())
        column = pa.Array.from_buffers(pa.binary(PICTURE_BYTES), len(numbers), [None, raw])
        table = pa.table({"picture": column})
        partial = path.with_suffix(f".{os.getpid()}.partial")
        with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        partial.replace(path)  # whole or not at all, even if two processes write it


class H5File:
    """The published 3dshapes.h5, a source with `images` [480000, 64, 64, 3] uint8 in the order of the grid."""

    def __init__(self, path: Path, grid: Grid) -> None:
        try:
            import h5py
        except ImportError as error:
            raise ValueError(
                f'{path} needs h5py; install "raysplit[shapes3d]", or leave `root` out to render the pictures'
            ) from error
        self._path = path
        with reading(path, _FETCH):
            self._images = h5py.File(path, "r")["images"]
        if self._images.shape != (len(grid), IMAGE_SIZE, IMAGE_SIZE, 3):
            expected = (len(grid), IMAGE_SIZE, IMAGE_SIZE, 3)
            raise ValueError(
                f"images in {path} has shape {self._images.shape}, 3D Shapes has {expected}; give the published file"
            )

    def pictures(self, indices: Indices) -> Pictures:
        return _by_block(indices, BLOCK_SIZE, self._block)  # HDF5 reads ranges fast and scattered rows very slowly

    def _block(self, block: int) -> Pictures:
        with reading(self._path, _FETCH):
            return np.asarray(self._images[block * BLOCK_SIZE : (block + 1) * BLOCK_SIZE], np.uint8)


def _by_block(indices: Indices, block_size: int, read: Callable[[int], Pictures]) -> Pictures:
    """Return the pictures with numbers `indices`, reading each block of consecutive numbers once."""
    out = np.empty((len(indices), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    blocks = indices // block_size
    for block in np.unique(blocks).tolist():
        rows = np.flatnonzero(blocks == block)
        out[rows] = read(block)[indices[rows] - block * block_size]
    return out


def picture_source(grid: Grid, root: Path | None, cache: Path | None) -> PictureSource:
    """Return the published file if the folder `root` has it and the grid is the full one, else the rendering.

    Rendered pictures are kept below the folder `cache` if one is given.
    """
    if root is not None and grid == GRIDS["full"] and (root / H5_NAME).is_file():
        logger.info("3D Shapes from %s", root / H5_NAME)
        return H5File(root / H5_NAME, grid)
    logger.info("3D Shapes rendered, since %s", "no folder is given" if root is None else f"{root} has no {H5_NAME}")
    rendered = Rendered(grid)
    if cache is None:
        return rendered
    sizes = "x".join(map(str, grid.sizes))
    return BlockCache(rendered, len(grid), cache / f"3dshapes-{RENDERING}-{sizes}")


def shapes3d_samples(source: PictureSource, grid: Grid, indices: Indices, tasks: Sequence[str]) -> Samples:
    """Return the pictures with numbers `indices` and the labels of `tasks`, any of FACTORS."""
    factors = grid.factors(indices)
    x = np.ascontiguousarray(source.pictures(indices).transpose(0, 3, 1, 2))  # [N, 3, 64, 64]
    y = {task: torch.from_numpy(factors[:, FACTORS.index(task)].copy()) for task in tasks}
    return Samples(x=torch.from_numpy(x), y=y)


def load_shapes3d(
    root: Path | None = None,
    *,
    cache: Path | None = None,
    grid: str = "full",
    tasks: Sequence[str] = PAPER_TASKS,
    noise: str | None = None,
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int = 0,
) -> TaskSet:
    """Load 3D Shapes with any of its six factors as tasks.

    Args:
        root: folder of the published 3dshapes.h5; without that file pictures are rendered.
        cache: folder that keeps rendered pictures for later runs.
        grid: "full" (480,000 pictures) or "reduced".
        tasks: factors to learn, from "floor_hue", "wall_hue", "object_hue", "scale", "shape" and "orientation".
        noise: noise on training and test pictures, as `noise_named` takes it.
        num_train: number of training pictures to draw; by default all (both sides of the full grid take 5.9 GB).
        num_test: number of test pictures to draw; by default all.
        seed: seed of these draws.

    Raises:
        ValueError: for an unknown grid, task or noise, and for more pictures than there are.
    """
    if grid not in GRIDS:
        raise ValueError(f"unknown grid {grid!r}; choose {' or '.join(GRIDS)}")
    if not tasks or len(set(tasks)) != len(tasks):
        raise ValueError(f"tasks is {list(tasks)}; name at least one factor, each once, of {', '.join(FACTORS)}")
    layout = GRIDS[grid]
    classes = {task: layout.class_names(task) for task in tasks}
    transform = unit_pixels(noise)
    source = picture_source(layout, root, cache)
    train, test = layout.split()
    return TaskSet(
        train=shapes3d_samples(source, layout, _drawn(train, num_train, "train", seed), tasks),
        test=shapes3d_samples(source, layout, _drawn(test, num_test, "test", seed), tasks),
        classes=classes,
        transform=transform,
        eval_transform=transform,
    )


def _drawn(indices: Indices, count: int | None, side: str, seed: int) -> Indices:
    if count is None:
        return indices
    if not 0 < count <= len(indices):
        raise ValueError(
            f"num_{side} is {count} and there are {len(indices)} {side} pictures; give 1 to {len(indices)}"
        )
    return np.sort(generator(seed, "shapes3d", side).choice(indices, size=count, replace=False))
