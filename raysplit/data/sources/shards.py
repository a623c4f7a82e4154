"""Streamed shards: one Parquet file per owner, which only that owner reads, a few row groups at a time.

``<root>/train/*.parquet`` has one file per owner, in the order of their names, and ``<root>/test.parquet`` the test
samples of all; the columns are ``x`` and ``y`` as in `raysplit.data.sources.files`. A further column ``owner`` of the
test samples names the file of their owner, without its extension. The root is a folder or any URI of `pyarrow.fs`
(``s3://``, ``gs://``, ``file://``). The coordinator reads only the footers of the training files, so it never sees a
training sample. The memory of an owner is bounded by its row groups, not by the size of its shard.

So that a file is read almost in sequence, an epoch shuffles its row groups, then the rows of every few of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
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
from raysplit.data.inputs import concatenated
from raysplit.data.labels import numbered
from raysplit.data.reading import AS_FOUND, Reading, read_inputs
from raysplit.data.samples import DataSet, Indices, Samples
from raysplit.data.sources.arrays import unit_and_normalise
from raysplit.data.sources.files import WRITE_AGAIN, reshaped, to_numpy
from raysplit.registry import shown

STREAMED = "shards"
"""Name of streamed shards as ``data.name`` of a configuration."""

GROUPS_AT_ONCE = 4
"""Number of consecutive row groups whose rows are shuffled together."""


class _Rules(TypedDict):
    input_shape: tuple[int, ...] | None
    reading: Reading
    num_classes: int | None


class StreamedShard:
    """The samples of an owner in a Parquet file, with the interface of `Samples` and few rows in memory.

    Args:
        uri: URI or path of the file.
        group_sizes: number of rows of each row group.
        input_shape: shape to which every stored input is reshaped; None keeps the stored shape.
        reading: what the arrays are, where their types do not say it.
        num_classes: number of classes, which the labels are checked against.
    """

    def __init__(
        self,
        uri: str,
        group_sizes: Sequence[int],
        *,
        input_shape: tuple[int, ...] | None = None,
        reading: Reading = AS_FOUND,
        num_classes: int | None = None,
    ) -> None:
        self.uri = uri
        self._starts = np.concatenate([[0], np.cumsum(group_sizes)]).astype(np.int64)
        self._rules = _Rules(input_shape=input_shape, reading=reading, num_classes=num_classes)
        self._file: Any = None
        self._groups: OrderedDict[int, Samples] = OrderedDict()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.uri, np.diff(self._starts).tolist(), self._rules)

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
    def x(self) -> Tensor:
        raise self._not_at_once()

    @property
    def y(self) -> Tensor:
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
        with reading_of(f"{self.uri}, row group {index}", WRITE_AGAIN):
            rows = self._file.read_row_group(index, ["x", "y"])
        self._groups[index] = _samples(rows, f"{self.uri}, row group {index}", **self._rules)[0]
        return self._groups[index]


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
    num_classes: int | None = None,
    input_shape: tuple[int, ...] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    reading: Reading = AS_FOUND,
) -> ShardSet:
    """Open the shards below a folder.

    Args:
        root: folder or URI with ``train/*.parquet`` and ``test.parquet``.
        num_classes: number of classes; by default the largest label plus one, of the test samples and of the training
            files, where their footers have it.
        input_shape: shape to which every input is reshaped.
        mean: mean per channel for normalization, given together with ``std``.
        std: standard deviation per channel for normalization.
        reading: what the arrays are, where their types do not say it; labels cannot be renumbered, as nobody sees all.

    Raises:
        ValueError: for a missing or unreadable file, one without rows or columns ``x`` and ``y``, and labels beyond
            the classes, as far as the footers have the largest label.
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
    uri = f"{root}/test.parquet"
    file = parquet_file(uri)
    with reading_of(uri, WRITE_AGAIN):
        rows = file.read([name for name in ("x", "y", "owner") if name in file.schema_arrow.names])
    if not rows.num_rows:
        raise ValueError(f"{uri} has no rows; the test needs at least one sample")
    test, done = _samples(rows, uri, input_shape=shape, reading=reading, num_classes=num_classes)
    assert isinstance(test.y, Tensor)
    stems = np.array([name.removesuffix(".parquet") for name in names])
    transform = unit_and_normalise(mean, std)
    files = {f"{root}/train/{name}": parquet_file(f"{root}/train/{name}") for name in names}
    largest = max([int(test.y.max()), *(bound for file in files.values() for _, bound in _label_ranges(file))])
    count = num_classes or largest + 1
    rules = _Rules(input_shape=shape, reading=reading, num_classes=count)
    shards = tuple(_shard(uri, file, rules) for uri, file in files.items())
    outline = DataSet(
        train=test,
        test=test,
        num_classes=count,
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


def _label_ranges(file: Any) -> list[tuple[int, int]]:
    """Return the smallest and the largest label of each row group that says them; writers may leave them out."""
    footer, names, found = file.metadata, file.schema.names, []
    for i in range(footer.num_row_groups if "y" in names else 0):  # a column of lists has another name there
        known = footer.row_group(i).column(names.index("y")).statistics
        if known is not None and known.has_min_max and isinstance(known.max, int | float):
            found.append((int(known.min), int(known.max)))
    return found


def _shard(uri: str, file: Any, rules: _Rules) -> StreamedShard:
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    if not sum(sizes):
        raise ValueError(f"{uri} has no rows; an owner needs at least one sample")
    _check_range([label for bounds in _label_ranges(file) for label in bounds], uri, rules["num_classes"])
    return StreamedShard(uri, sizes, **rules)


def _check_range(labels: Sequence[Any], source: str, num_classes: int | None) -> None:
    for label in labels:
        if num_classes is not None and isinstance(label, int | float) and not 0 <= label < num_classes:
            raise ValueError(
                f"{source}: column y has the label {label:g} and there are {num_classes} classes, 0 to "
                f"{num_classes - 1}; repair the label, or set data.num_classes"
            )


def _opened(uri: str) -> tuple[Any, str]:
    if "://" not in uri:
        return fs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    try:
        found, path = fs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise ValueError(f"{uri} cannot be opened: {error}; give a path, s3://... or gs://...") from error
    return found, path.rstrip("/")


def parquet_file(uri: str) -> Any:
    """Open a Parquet file with columns ``x`` and ``y``. Raises ``ValueError``."""
    filesystem, path = _opened(uri)
    with reading_of(uri, WRITE_AGAIN):
        file = pq.ParquetFile(filesystem.open_input_file(path), page_checksum_verification=True)
        names = file.schema_arrow.names  # pyarrow reads the text of names when it is asked for
    if missing := {"x", "y"} - set(names):
        raise ValueError(f"{uri} has the columns {shown(names)} and lacks {sorted(missing)}; give x and y")
    return file


def _samples(
    table: pa.Table, uri: str, *, input_shape: tuple[int, ...] | None, reading: Reading, num_classes: int | None
) -> tuple[Samples, str]:
    """Return the samples of some rows, and what was done with the inputs."""
    x: npt.NDArray[Any] = to_numpy(table["x"], f"{uri}, column x")
    if input_shape is not None:
        x = reshaped(x, input_shape, f"{uri}, column x")
    inputs = read_inputs(x, uri, reading)
    (labels,) = numbered([to_numpy(table["y"], f"{uri}, column y")], [len(x)], uri).sides
    _check_range([int(labels.max())] if len(labels) else [], uri, num_classes)
    return Samples(x=inputs.values, y=labels), inputs.done
