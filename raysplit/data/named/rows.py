"""Data sets of the library datasets of Hugging Face: columns by name, with the types and classes that they declare.

The class column (or ``label``, ``labels``, ``y``) is the target, ``owner`` names the owner of each row, and the other
columns are inputs: pictures, numbers, and lists of numbers, also of different lengths. Nothing is downloaded here; the
function that makes the data set decides where it comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from raysplit.data.named.arrays import OFFSETS, TEST, ArrayRules, data_set_from_named
from raysplit.data.reading import Reading
from raysplit.data.samples import DataSet
from raysplit.data.sources.pictures import eight_bits, picture_array
from raysplit.registry import shown

TARGETS = ("label", "labels", "y")
OWNER = "owner"
Array = npt.NDArray[Any]


def is_hub_set(value: Any) -> bool:
    """Return whether a value is a data set, or several by side, of the library datasets."""
    return type(value).__module__.partition(".")[0] == "datasets"


def data_set_of_rows(made: Any, source: str, reading: Reading) -> DataSet:
    """Make a data set of one data set (a share is held out), of two (train, test), or of a mapping with these sides.

    Raises ``ValueError`` for sides that differ, streamed sets, and columns that are no numbers or pictures.
    """
    train, test = _sides(made, source)
    for side in (train, test):
        if side is not None and not hasattr(side, "__len__"):
            raise ValueError(f"{source}: a side is streamed; load it whole, with streaming=False")
    target, names = _target(train, source)
    inputs = [name for name in train.column_names if name not in (target, OWNER)]
    if not inputs:
        raise ValueError(f"{source}: the columns are {shown(train.column_names)}, and none of them is an input")
    arrays: dict[str, Array] = {}
    for end, side in (("", train), (TEST, test)):
        if side is None:
            continue
        if set(side.column_names) != set(train.column_names):
            raise ValueError(
                f"{source}: train has the columns {shown(train.column_names)} and test {shown(side.column_names)}; "
                f"give both the same"
            )
        for name in inputs:
            found, offsets = _column(side, name, source)
            arrays[_plain(name, inputs, train) + end] = found
            if offsets is not None:
                arrays[_plain(name, inputs, train) + OFFSETS + end] = offsets
        y, offsets = _column(side, target, source)
        arrays["y" + end] = y
        if offsets is not None:
            arrays["y" + OFFSETS + end] = offsets
        if OWNER in side.column_names:
            arrays[OWNER + end] = np.asarray(side[OWNER])
    data = data_set_from_named(arrays, source, ArrayRules(), reading)
    if names:
        data = replace(data, num_classes=len(names), label_names=names)
    return data


def _sides(made: Any, source: str) -> tuple[Any, Any]:
    if not isinstance(made, Mapping):
        return (made, None) if not isinstance(made, tuple | list) else (made[0], made[1])
    if "train" not in made:
        raise ValueError(f"{source}: the sides are {shown(list(made))}; name one train, and the other test")
    return made["train"], made.get("test", made.get("validation"))


def _target(side: Any, source: str) -> tuple[str, tuple[str, ...] | None]:
    """Return the column of the target and the names of its classes."""
    classes = [name for name, feature in side.features.items() if type(feature).__name__ == "ClassLabel"]
    named = [name for name in TARGETS if name in side.column_names]
    if len(classes) == 1 or named:
        target = classes[0] if len(classes) == 1 else named[0]
        names = getattr(side.features[target], "names", None)
        return target, tuple(names) if names else None
    raise ValueError(
        f"{source}: no column of {shown(side.column_names)} is the target: none is of type ClassLabel, or named "
        f"{', '.join(TARGETS)}; rename one (rename_column)"
    )


def _plain(name: str, inputs: list[str], side: Any) -> str:
    """Return ``x`` for the only input, unless it is a list of whole numbers, which have names."""
    feature = side.features[name]
    is_ids = type(feature).__name__ in ("Sequence", "List", "LargeList") and _dtype(feature).startswith(("int", "uint"))
    return name if len(inputs) > 1 or is_ids else "x"


def _dtype(feature: Any) -> str:
    inner = getattr(feature, "feature", feature)
    return str(getattr(inner, "dtype", ""))


def _column(side: Any, name: str, source: str) -> tuple[Array, Array | None]:
    """Return a column as an array, and for lists of different lengths the flat one with its offsets."""
    feature = side.features[name]
    if type(feature).__name__ == "Image":
        pictures = [
            eight_bits(picture_array(image, f"{source}, {name}, row {row}", None, None))
            for row, image in enumerate(side[name])
        ]
        if shapes := sorted({picture.shape for picture in pictures})[1:]:
            raise ValueError(
                f"{source}: pictures of {name!r} differ in size, such as {pictures[0].shape[:2]} and {shapes[-1][:2]}; "
                f"resize them in the function (map)"
            )
        return np.stack(pictures), None
    if "string" in _dtype(feature):
        raise ValueError(
            f"{source}: column {name!r} is text, and a model takes numbers; turn it into tokens in the function (map), "
            f"or take it out (remove_columns)"
        )
    values = [np.asarray(value) for value in side.with_format("numpy")[name][:]]
    if missing := [row for row, value in enumerate(values) if value.dtype == object]:
        raise ValueError(f"{source}: column {name!r}, row {missing[0]} has no value; fill it or drop the row")
    if len({value.shape for value in values}) < 2:
        return np.stack(values), None
    if {value.shape[1:] for value in values} != {values[0].shape[1:]}:
        raise ValueError(f"{source}: rows of column {name!r} differ in more than their length; give them one shape")
    lengths = np.array([len(value) for value in values])
    return np.concatenate(values), np.concatenate([[0], np.cumsum(lengths)])
