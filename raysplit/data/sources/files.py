"""A user's own arrays from ``.npz`` or Parquet: ``x``, ``y`` and optionally ``owner`` and ``split``.

``owner`` has the id of the owner of each sample, for the partition ``natural_id``; the test samples of an owner are its
own. ``split`` has "train" or "test" for each sample; without it a fifth of every class is held out. In Parquet an input
is a list, with nested lists for more dimensions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from raysplit.data.samples import DataSet
from raysplit.data.sources.arrays import data_set_from_arrays

SUFFIXES = (".npz", ".parquet")


def load_file(
    path: Path,
    *,
    input_shape: tuple[int, ...] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> DataSet:
    """Load a data set from an ``.npz`` or ``.parquet`` file.

    Args:
        path: the file, with the columns ``x`` and ``y`` and optionally ``owner`` and ``split``.
        input_shape: shape to which every input is reshaped.
        mean: mean per channel for normalization, given together with ``std``.
        std: standard deviation per channel for normalization.

    Raises:
        ValueError: for a missing file, a missing ``x`` or ``y``, lengths that differ, NaN, labels that are not integers
            and wrong values in ``split``.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give the path of an .npz or .parquet file with x and y")
    columns = _read_npz(path) if path.suffix == ".npz" else _read_parquet(path)
    for needed in ("x", "y"):
        if needed not in columns:
            raise ValueError(
                f"{path} has {sorted(columns)} and no {needed!r}; give x and y, and owner and split if wanted"
            )
    x = columns["x"]
    if input_shape is not None:
        if np.prod(input_shape) != x[0].size:
            raise ValueError(
                f"{path}: an input has {x[0].size} values and input_shape is {tuple(input_shape)}; "
                f"give a shape of {x[0].size} values"
            )
        x = x.reshape(len(x), *input_shape)
    owner, split = columns.get("owner"), columns.get("split")
    return data_set_from_arrays(x, columns["y"], str(path), owner=owner, split=split, mean=mean, std=std)


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path} cannot be read as .npz: {error}; save it with numpy.savez, without object arrays"
        ) from error


def _read_parquet(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        table = pq.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} cannot be read as Parquet: {error}; write the file again") from error
    return {name: to_numpy(table[name], f"{path}, column {name}") for name in table.column_names}


def to_numpy(column: Any, source: str) -> npt.NDArray[Any]:
    """Convert a Parquet column to an array, with lists as further dimensions.

    Raises ``ValueError``, which names ``source``, for missing values and lists of different lengths.
    """
    if column.null_count:
        raise ValueError(f"{source}: {column.null_count} values are missing; fill or drop those rows")
    values = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    shape = [len(values)]
    while (
        pa.types.is_list(values.type) or pa.types.is_large_list(values.type) or pa.types.is_fixed_size_list(values.type)
    ):
        lengths = pc.unique(pc.list_value_length(values)).to_pylist()
        if len(lengths) != 1:
            raise ValueError(f"{source}: lists have lengths {sorted(lengths)[:5]}; give every sample the same shape")
        shape += lengths
        values = values.flatten()
    return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)
