"""A user's own multi-task data: a folder of pictures and a table of labels.

The table is CSV or Parquet with one row per picture: a column of paths inside the folder, one column of labels per
task, and optionally a column that says "train" or "test". As for MEDIC in Capogrosso et al., "MTL-Split" (2024, arXiv
2407.05982), a class's number is its rank in the sorted list of class names. An empty cell is a missing label: the
picture counts for its other tasks alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.csv
import pyarrow.parquet
import torch
from PIL import Image

from raysplit.data.failures import reading, refuse_too_large
from raysplit.data.labels import NO_LABEL
from raysplit.data.partition.stratify import stratified_split
from raysplit.data.samples import Samples
from raysplit.data.sources.pictures import eight_bits, read_picture
from raysplit.data.sources.task_set import TaskSet
from raysplit.data.transforms import ToUnit
from raysplit.options import SideLength
from raysplit.registry import few, nearest, shown


def load_image_table(
    folder: Path,
    table: Path,
    *,
    tasks: Sequence[str] | Mapping[str, str],
    image_column: str = "image",
    split_column: str | None = None,
    image_size: SideLength = 64,
    seed: int = 0,
) -> TaskSet:
    """Load RGB pictures with one label per task from a folder and a table.

    Args:
        folder: folder of the pictures.
        table: CSV or Parquet file with one row per picture, relative to `folder` unless the path is absolute.
        tasks: label columns, or {task: column} to give the tasks other names.
        image_column: column of the pictures' paths, relative to `folder`.
        split_column: column with "train" or "test"; without it a fifth is held out, stratified by the first task.
        image_size: side in pixels to which pictures are scaled.
        seed: seed of the split.

    Raises:
        ValueError: for a missing column or picture, a row without a path, side or any label, a path outside `folder`
            (with table, column and row), and a task with fewer than two classes.
    """
    table = folder / table  # unless the table's path is absolute
    columns = dict(tasks) if isinstance(tasks, Mapping) else {task: task for task in tasks}
    if not columns:
        raise ValueError(f"{table}: tasks is empty; name at least one label column as a task")
    if len(columns) < len(tasks):
        raise ValueError(f"{table}: tasks names a column twice, {list(tasks)}; name each once")
    rows = _read(table)
    needed = [image_column, *columns.values(), *([split_column] if split_column else [])]
    missing = [name for name in needed if name not in rows]
    if missing:
        one = next(iter(rows)) if len(rows) == 1 else ""
        way_out = "; divide the columns by commas" if missing[0] in one else nearest(missing[0].strip(), rows)
        raise ValueError(f"{table} has no column {missing[0]!r}; its columns are {few(map(shown, rows))}{way_out}")
    values = {name: _complete(rows, name, table) for name in (image_column, split_column) if name is not None}
    classes, y = {}, {}
    for task, column in columns.items():
        labels = rows[column]
        names = _sorted_names([label for label in labels if not _is_missing(label)], f"{table}, column {column!r}")
        if len(names) < 2:
            raise ValueError(
                f"{table}, column {column!r}: {len(names)} class; a task needs at least 2 classes, so leave it out"
            )
        classes[task] = tuple(map(str, names))
        numbers: dict[Any, int] = {name: number for number, name in enumerate(names)}
        y[task] = torch.tensor([NO_LABEL if _is_missing(label) else numbers[label] for label in labels])
    if unlabelled := [row for row, of_row in enumerate(zip(*y.values(), strict=True), 1) if max(of_row) < 0]:
        raise ValueError(f"{table}: row {unlabelled[0]} has no label for any task; give it one, or drop the row")
    refuse_too_large(
        f"the {len(values[image_column]):,} pictures of {table}", len(values[image_column]) * 3 * image_size**2, 1
    )
    pictures = [_picture(folder, str(path), row, image_size) for row, path in enumerate(values[image_column], start=1)]
    everything = Samples(x=torch.from_numpy(np.stack(pictures)), y=y)
    first = next(iter(y.values())).numpy()
    train, test = stratified_split(first, seed) if split_column is None else _sides(values[split_column], table)
    return TaskSet(
        train=everything.take(train),
        test=everything.take(test),
        classes=classes,
        transform=ToUnit(),
        eval_transform=ToUnit(),
    )


def _read(table: Path) -> dict[str, list[Any]]:
    readers = {
        ".csv": pyarrow.csv.read_csv,
        ".parquet": partial(pyarrow.parquet.read_table, page_checksum_verification=True),
    }
    if table.suffix not in readers or not table.is_file():
        raise ValueError(f"there is no label table {table}; give the path of a .csv or .parquet file")
    with reading(table, "repair the file"):
        read = readers[table.suffix](table)
        columns = {name: read[name].to_pylist() for name in read.column_names}
    if not read.num_rows:
        raise ValueError(f"{table} has no rows; give one row per picture")
    return columns


def _sorted_names(labels: Sequence[Any], source: str) -> list[Any]:
    try:
        return sorted(set(labels))
    except TypeError as error:
        raise ValueError(f"{source}: labels cannot be ordered ({error}); give text or numbers alone") from error


def _is_missing(value: Any) -> bool:
    return value is None or value == "" or value != value


def _complete(rows: Mapping[str, list[Any]], name: str, table: Path) -> list[Any]:
    values = rows[name]
    empty = [row for row, value in enumerate(values, start=1) if _is_missing(value)]
    if empty:
        raise ValueError(f"{table}, column {name!r}: row {empty[0]} has no value; fill it or drop the row")
    return values


def _picture(folder: Path, name: str, row: int, size: int) -> npt.NDArray[np.uint8]:
    """Read one picture as [3, size, size]."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"row {row}: {name} lies outside {folder}; give a path below that folder")
    try:
        return eight_bits(read_picture(path, size, Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    except ValueError as error:
        raise ValueError(f"row {row}: {error}, or drop the row") from error


def _sides(split: Sequence[Any], table: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    wrong = [(row, side) for row, side in enumerate(split, start=1) if side not in ("train", "test")]
    if wrong:
        raise ValueError(f'{table}, row {wrong[0][0]}: split is {wrong[0][1]!r}; it must be "train" or "test"')
    sides = np.array(split)
    return np.flatnonzero(sides == "train"), np.flatnonzero(sides == "test")
