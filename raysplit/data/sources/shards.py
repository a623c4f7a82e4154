"""Streamed shards: one Parquet file per owner, which only that owner reads, a few row groups at a time.

``<root>/train/*.parquet`` has one file per owner, in the order of their names, and ``<root>/test.parquet`` the test
samples of all; the columns are ``x`` and ``y`` as in `raysplit.data.sources.files`, or one for each of several targets.
A further column ``owner`` of the test samples names the file of their owner, without its extension. The root is a
folder or any URI of `pyarrow.fs` (``s3://``, ``gs://``, ``file://``). The coordinator reads only the footers of the
training files, so it never sees a training sample. An owner holds some row groups in memory, not its shard.

So that a file is read almost in sequence, an epoch shuffles its row groups, then the rows of every few of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pyarrow import fs
from torch import Tensor

from raysplit.data.failures import reading as reading_of
from raysplit.data.inputs import Values, concatenated
from raysplit.data.reading import AS_FOUND, Reading, read_inputs
from raysplit.data.samples import DataSet, Indices, Samples
from raysplit.data.sources.arrays import unit_and_normalise
from raysplit.data.sources.files import WRITE_AGAIN, reshaped, to_numpy
from raysplit.data.targets.in_shards import ONE_LABEL, Columns, columns_of, ranges_of, with_kinds, with_outputs
from raysplit.registry import shown
from raysplit.tasks import Task

STREAMED = "shards"
"""Name of streamed shards as ``data.name`` of a configuration."""

GROUPS_AT_ONCE = 4
"""Number of consecutive row groups whose rows are shuffled together."""


class _Rules(TypedDict):
    input_shape: tuple[int, ...] | None
    reading: Reading
    targets: Columns
    task: Task | None


class StreamedShard:
    """The samples of an owner in a Parquet file, with the interface of `Samples` and few rows in memory.

    Args:
        uri: URI or path of the file.
        group_sizes: number of rows of each row group.
        input_shape: shape to which every stored input is reshaped; None keeps the stored shape.
        reading: what the arrays are, where their types do not say it.
        targets: the columns of the targets, which are checked against their numbers of classes.
        task: the task of the run, which checks the targets that it learns.
    """

    def __init__(
        self,
        uri: str,
        group_sizes: Sequence[int],
        *,
        input_shape: tuple[int, ...] | None = None,
        reading: Reading = AS_FOUND,
        targets: Columns = ONE_LABEL,
        task: Task | None = None,
    ) -> None:
        self.uri = uri
        self._starts = np.concatenate([[0], np.cumsum(group_sizes)]).astype(np.int64)
        self._rules = _Rules(input_shape=input_shape, reading=reading, targets=targets, task=task)
        self._file: Any = None
        self._groups: OrderedDict[int, Samples] = OrderedDict()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.uri, np.diff(self._starts).tolist(), self._rules)

    def of_task(self, task: Task) -> StreamedShard:
        """Return the shard with targets that the task of the run checks as they are read."""
        return _restored(self.uri, np.diff(self._starts).tolist(), _Rules(**{**self._rules, "task": task}))

    @property
    def num_rows_held(self) -> int:
        """Number of rows in memory."""
        return sum(len(group) for group in self._groups.values())

    def take(self, indices: Sequence[int] | Indices | Tensor) -> Samples:
        """Read the samples at ``indices``, in that order."""
        chosen = torch.as_tensor(indices, dtype=torch.int64).numpy()
        group_of = np.searchsorted(self._starts, chosen, side="right") - 1
        pieces, places = [], []
        for group in dict.fromkeys(group_of.tolist()):
            where = np.flatnonzero(group_of == group)
            pieces.append(self._group(group).take(chosen[where] - self._starts[group]))
            places.append(where)
        order = torch.from_numpy(np.argsort(np.concatenate(places)))
        x, y = (concatenated(parts) for parts in ([piece.x for piece in pieces], [piece.y for piece in pieces]))
        return Samples(x=x, y=y).take(order)

    @staticmethod
    def concatenated(parts: Sequence[StreamedShard]) -> Samples:
        """Raise ``ValueError``, since streamed samples are never in memory together."""
        raise parts[0]._not_at_once()

    def shuffled(self, rng: np.random.Generator) -> Indices:
        """Return a random order of all samples that visits a few row groups at a time."""
        groups = rng.permutation(len(self._starts) - 1)
        windows = [groups[i : i + GROUPS_AT_ONCE] for i in range(0, len(groups), GROUPS_AT_ONCE)]
        rows = [np.concatenate([np.arange(self._starts[g], self._starts[g + 1]) for g in window]) for window in windows]
        return np.concatenate([rng.permutation(window) for window in rows])

    @property
    def x(self) -> Values:
        raise self._not_at_once()

    @property
    def y(self) -> Values:
        raise self._not_at_once()

    def _not_at_once(self) -> ValueError:
        return ValueError(
            f"data.name is {STREAMED}, {self.uri} is read a few rows at a time, and this method needs all samples at "
            f"once; use another algorithm, or a data set that is loaded into memory"
        )

    def _group(self, index: int) -> Samples:
        if index in self._groups:
            self._groups.move_to_end(index)
            return self._groups[index]
        while len(self._groups) >= 2 * GROUPS_AT_ONCE:  # a batch may span two windows
            self._groups.popitem(last=False)
        if self._file is None:
            self._file = parquet_file(self.uri)
        where, rules = f"{self.uri}, row group {index}", self._rules
        with reading_of(where, WRITE_AGAIN):
            rows = self._file.read_row_group(index, ["x", *rules["targets"].names])
        x, _ = _inputs(rows, where, rules["input_shape"], rules["reading"])
        samples = Samples(x=x, y=rules["targets"].read(rows, where))
        if rules["task"] is not None:
            rules["task"].check(samples.y, f"y of {where}")
        self._groups[index] = samples
        return samples


def _restored(uri: str, group_sizes: list[int], rules: _Rules) -> StreamedShard:
    return StreamedShard(uri, group_sizes, **rules)


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardSet:
    """The shards of all owners, and a data set for the coordinator.

    Attributes:
        shards: the shard of each owner.
        outline: data set with the test samples on both sides, of which the coordinator uses shapes and classes.
        names: the name of the file of each shard, without its extension.
        test_owner: the name of the owner of each test sample; None where the file has no column for it.
    """

    shards: tuple[StreamedShard, ...]
    outline: DataSet
    names: npt.NDArray[Any]
    test_owner: npt.NDArray[Any] | None = None


def open_shards(
    root: str,
    *,
    num_classes: int | dict[str, int] | None = None,
    targets: tuple[str, ...] | None = None,
    input_shape: tuple[int, ...] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    reading: Reading = AS_FOUND,
) -> ShardSet:
    """Open the shards below a folder.

    Args:
        root: folder or URI with ``train/*.parquet`` and ``test.parquet``.
        num_classes: number of classes, by target where there are several; by default the largest label plus one, of
            the test samples and of the training files, where their footers have it.
        targets: columns of the targets.
        input_shape: shape to which every input is reshaped.
        mean: mean per channel for normalization, given together with ``std``.
        std: standard deviation per channel for normalization.
        reading: what the arrays are, where their types do not say it; labels cannot be renumbered, as nobody sees all.

    Raises:
        ValueError: for a missing or unreadable file, one without rows or one of the columns, and labels beyond the
            classes, as far as the footers have the largest label.
    """
    if reading.renumber_labels:
        raise ValueError(
            "data.renumber_labels is true and every owner reads its own file, so that nobody sees all labels; write "
            "the shards with labels 0..C-1, or leave it out"
        )
    filesystem, folder = _opened(root)
    try:
        entries = filesystem.get_file_info(fs.FileSelector(f"{folder}/train"))
    except OSError as error:
        raise ValueError(f"{root} has no folder train with a Parquet file for each owner: {error}") from error
    names = sorted(entry.base_name for entry in entries if _is_shard(entry.base_name))
    if not names:
        raise ValueError(f"{root}/train has no .parquet file; put one there for each owner")
    shape = tuple(input_shape) if input_shape is not None else None
    columns = columns_of(targets, reading)
    uri = f"{root}/test.parquet"
    file = parquet_file(uri, ("x", *columns.names))
    with reading_of(uri, WRITE_AGAIN):
        rows = file.read([name for name in ("x", *columns.names, "owner") if name in file.schema_arrow.names])
    if not rows.num_rows:
        raise ValueError(f"{uri} has no rows; the test needs at least one sample")
    x, done = _inputs(rows, uri, shape, reading)
    columns = with_kinds(columns, rows, uri)
    stems = np.array([name.removesuffix(".parquet") for name in names])
    transform = unit_and_normalise(mean, std)
    paths = [f"{root}/train/{name}" for name in names]
    files = {path: parquet_file(path, ("x", *columns.names)) for path in paths}
    test = Samples(x=x, y=columns.read(rows, uri))
    columns = with_outputs(columns, num_classes, test, list(files.values()))
    test = replace(test, y=columns.read(rows, uri))  # as some are beyond the number of classes that is given
    rules = _Rules(input_shape=shape, reading=reading, targets=columns, task=None)
    shards = tuple(_shard(path, file, rules) for path, file in files.items())
    outline = DataSet(
        train=test,
        test=test,
        num_classes=columns.num_outputs,
        classes=columns.classes,
        num_outputs=columns.by_name,
        transform=transform,
        eval_transform=transform,
        done=(done,),
        reading=reading,
    )
    return ShardSet(shards=shards, outline=outline, names=stems, test_owner=_owners(rows, stems, root))


def _is_shard(name: str) -> bool:
    return name.endswith(".parquet") and not name.startswith((".", "_"))  # the hidden files of other programs


def _owners(table: pa.Table, names: npt.NDArray[Any], root: str) -> npt.NDArray[Any] | None:
    if "owner" not in table.column_names:
        return None
    owners = to_numpy(table["owner"], f"{root}/test.parquet, column owner").astype(str)
    if not np.isin(owners, names).any():
        raise ValueError(
            f"{root}/test.parquet names the owners {', '.join(sorted(set(owners))[:3])} and train/ has the files "
            f"{', '.join(names[:3])}; name the file of each sample's owner, without .parquet, or leave the column out"
        )
    return owners


def _shard(uri: str, file: Any, rules: _Rules) -> StreamedShard:
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    if not sum(sizes):
        raise ValueError(f"{uri} has no rows; an owner needs at least one sample")
    for column in rules["targets"].each:
        if column.has_labels:
            column.check_labels([label for bounds in ranges_of(file, column.name) for label in bounds], uri)
    return StreamedShard(uri, sizes, **rules)


def _opened(uri: str) -> tuple[Any, str]:
    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    try:
        found, path = fs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise ValueError(f"{uri} cannot be opened: {error}; give a path, s3://... or gs://...") from error
    return found, path.rstrip("/")


def parquet_file(uri: str, columns: Sequence[str] = ()) -> Any:
    """Open a Parquet file that has these columns. Raises ``ValueError``."""
    filesystem, path = _opened(uri)
    with reading_of(uri, WRITE_AGAIN):
        file = pq.ParquetFile(filesystem.open_input_file(path), page_checksum_verification=True)
        names = file.schema_arrow.names  # pyarrow reads the text of names when it is asked for
    if missing := [name for name in columns if name not in names]:
        wanted = f"{', '.join(columns[:-1])} and {columns[-1]}"
        raise ValueError(f"{uri} has the columns {shown(names)} and lacks {missing}; give {wanted}")
    return file


def _inputs(table: pa.Table, uri: str, input_shape: tuple[int, ...] | None, reading: Reading) -> tuple[Values, str]:
    """Return the inputs of some rows, and what was done with them."""
    x: npt.NDArray[Any] = to_numpy(table["x"], f"{uri}, column x")
    if input_shape is not None:
        x = reshaped(x, input_shape, f"{uri}, column x")
    inputs = read_inputs(x, uri, reading)
    return inputs.values, inputs.done
