"""A user's own arrays from ``.npz`` or Parquet: ``x``, ``y`` and optionally ``owner`` and ``split``.

``owner`` has the id of the owner of each sample, for the partition ``natural_id``; the test samples of an owner are its
own. ``split`` has "train" or "test" for each sample; without it a fifth of every class is held out. In Parquet an input
is a list, with nested lists for more dimensions.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from raysplit.data.failures import reading as reading_of
from raysplit.data.named.arrays import ArrayRules, data_set_from_named, is_named
from raysplit.data.partition.stratify import TEST_FRACTION
from raysplit.data.reading import AS_FOUND, Reading
from raysplit.data.samples import DataSet
from raysplit.data.sequences.masking import refuse_idle, tokens_of, with_hidden_if_asked
from raysplit.data.sources.arrays import data_set_from_arrays
from raysplit.options import Count
from raysplit.registry import shown

WRITE_AGAIN = "write the Parquet file again"


def load_file(
    path: Path,
    *,
    input_shape: tuple[int, ...] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    inputs: tuple[str, ...] | None = None,
    targets: tuple[str, ...] | None = None,
    next_token: bool = False,
    vocabulary: Count | None = None,
    pad: int = 0,
    mask: bool = True,
    masked: Annotated[float, Field(gt=0, lt=1)] | None = None,
    mask_token: Annotated[int, Field(ge=0)] | None = None,
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = TEST_FRACTION,
    reading: Reading = AS_FOUND,
) -> DataSet:
    """Load a data set from an ``.npz`` or ``.parquet`` file.

    Args:
        path: the file, with the columns ``x`` and ``y`` and optionally ``owner`` and ``split``, or with columns of
            other names (see `raysplit.data.named.arrays`).
        input_shape: shape to which every input is reshaped.
        mean: mean per channel for normalization, given together with ``std``.
        std: standard deviation per channel for normalization.
        inputs: columns of the inputs.
        targets: columns of the targets.
        next_token: take the token that follows each token as the target.
        vocabulary: number of tokens.
        pad: token that fills up shorter samples.
        mask: give samples of different lengths the input ``attention_mask``.
        masked: share of the tokens that are hidden and learned.
        mask_token: token that hides; None takes a new one behind the vocabulary.
        test_fraction: share of every class that is held out where the file has no test side.
        reading: what the arrays are, where their types do not say it.

    Raises:
        ValueError: for a missing or broken file, a missing ``x`` or ``y``, lengths that differ, NaN, labels that are
            not integers and wrong values in ``split``.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the path of an .npz or .parquet file with x and y")
    if not path.exists():
        raise ValueError(f"there is no file {path}; give the path of an .npz or .parquet file with x and y")
    columns = _read_npz(path) if path.suffix == ".npz" else _read_parquet(path)
    refuse_idle(masked, mask_token)
    if masked is not None and (next_token or targets):
        other = "data.next_token is true" if next_token else f"data.targets is {', '.join(targets or ())}"
        raise ValueError(f"data.masked is {masked:g} and {other}, and a batch has one kind of target; give one of them")
    rules = ArrayRules(
        inputs=inputs,
        targets=targets,
        next_token=next_token or masked is not None,
        vocabulary=vocabulary,
        pad=pad,
        mask=mask,
        test_fraction=test_fraction,
    )
    if reading.tasks or is_named(columns, rules):
        for key, value in (("input_shape", input_shape), ("mean", mean), ("std", std)):
            if value is not None:
                raise ValueError(f"data.{key} is {value}, which is for files with one input x alone; leave it out")
        data = data_set_from_named(columns, str(path), rules, reading)
        return with_hidden_if_asked(data, tokens_of(data), masked, mask_token)
    if "y" not in columns:
        raise ValueError(f"{path} has {shown(sorted(columns))} and no 'y'; give x and y, and owner and split if wanted")
    x = columns["x"]
    if not x.ndim or not len(x):
        raise ValueError(f"{path}: x has the shape {x.shape} and no samples; give numbers of shape [N, ...]")
    if input_shape is not None:
        x = reshaped(x, input_shape, str(path))
    return data_set_from_arrays(
        x,
        columns["y"],
        str(path),
        owner=columns.get("owner"),
        split=columns.get("split"),
        test_fraction=test_fraction,
        mean=mean,
        std=std,
        reading=reading,
    )


def reshaped(x: npt.NDArray[Any], input_shape: tuple[int, ...], source: str) -> npt.NDArray[Any]:
    """Return inputs of another shape. Raises ``ValueError`` where it has another number of values."""
    size = x[:1].size
    if any(side < 1 for side in input_shape) or (len(x) and math.prod(input_shape) != size):
        raise ValueError(
            f"{source}: an input has {size} values and input_shape is {shown(tuple(input_shape))}; give a shape of "
            f"{size} values"
        )
    return x.reshape(len(x), *input_shape)


def _read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    with reading_of(path, "save it again with numpy.savez, whole and without object arrays"):
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise TypeError("it is one array (.npy) and no archive of arrays by name")
        with archive:
            return {name: archive[name] for name in archive.files}


def _read_parquet(path: Path) -> dict[str, npt.NDArray[Any]]:
    with reading_of(path, WRITE_AGAIN):
        table = pq.read_table(path, page_checksum_verification=True)
        names = table.column_names  # pyarrow reads the text of names when it is asked for
    return {name: to_numpy(table[name], f"{path}, column {name}") for name in names}


def to_numpy(column: Any, source: str) -> npt.NDArray[Any]:
    """Convert a Parquet column to an array, with lists as further dimensions.

    Raises ``ValueError``, which names ``source``, for missing values and lists of different lengths.
    """
    if column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        missing = f"{column.null_count} value{'s are' if column.null_count > 1 else ' is'}"
        raise ValueError(f"{source}: {missing} missing, the first in row {row}; fill or drop those rows")
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
    with reading_of(source, WRITE_AGAIN):
        return np.asarray(values.to_numpy(zero_copy_only=False)).reshape(shape)
