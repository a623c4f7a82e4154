"""How arrays become inputs: pixels, numbers or ids, and which dimension holds the channels.

An array does not say what its numbers are. By default ``uint8`` pictures are pixels, divided by 255; floating numbers
and other integers keep their values as ``float32``. Where this rule cannot decide, the error names the setting that
can: ``data.values``, ``data.max_value`` or ``data.layout``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array: TypeAlias = npt.NDArray[Any]
Kind = Literal["pixels", "numbers", "ids"]
Layout = Literal["channels_first", "channels_last"]

EXACT_IN_FLOAT32 = 2**24
"""The largest integer up to which float32 holds every integer."""

_COLOURS = (1, 3)  # channels of grey and RGB pictures


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The settings that say what an array does not.

    Attributes:
        values: what the numbers are: ``pixels`` are divided by ``max_value``, ``numbers`` keep their values as
            float32, ``ids`` stay whole numbers for an embedding. None decides by type and shape.
        max_value: value of a pixel that becomes 1; None takes the largest of the type, 255 or 65,535.
        layout: dimension of the channels in an array [N, ?, ?, ?]; None decides by shape.
        renumber_labels: number the labels that occur, sorted, from 0.
        task: kind of the task, which says what targets are; None decides by their type and shape.
        tasks: kinds of the tasks of several targets, as pairs of name and kind.
        ignore_index: the class that does not count, where a setting says it.
        ignored: the same of several targets, as pairs of name and class.

    Raises:
        ValueError: for a ``max_value`` that is not above 0, or one beside values other than pixels.
    """

    values: Kind | None = None
    max_value: float | None = None
    layout: Layout | None = None
    renumber_labels: bool = False
    task: str | None = None
    tasks: tuple[tuple[str, str], ...] = ()
    ignore_index: int | None = None
    ignored: tuple[tuple[str, int], ...] = ()

    def of(self, target: str) -> Reading:
        """Return the settings for one of several targets; labels alone are renumbered."""
        kind, ignored = dict(self.tasks).get(target, self.task), dict(self.ignored).get(target, self.ignore_index)
        renumbers = self.renumber_labels and kind in (None, "classification")
        return replace(self, task=kind, tasks=(), ignore_index=ignored, ignored=(), renumber_labels=renumbers)

    def __post_init__(self) -> None:
        if self.max_value is None:
            return
        if self.values not in (None, "pixels"):
            raise ValueError(
                f"data.max_value is {self.max_value:g} and data.values is {self.values}; only pixels are divided "
                f"by it, so leave it out or set data.values: pixels"
            )
        if not self.max_value > 0:
            raise ValueError(f"data.max_value is {self.max_value:g}; give the value that becomes 1, above 0")

    def named(self) -> dict[str, Any]:
        """Return the settings that are given, by their keys in a configuration."""
        fields = {"values": self.values, "max_value": self.max_value, "layout": self.layout}
        given = {f"data.{key}": value for key, value in fields.items() if value is not None}
        return given | ({"data.renumber_labels": True} if self.renumber_labels else {})


AS_FOUND = Reading()
"""The default rules."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """The tensor that an array became, and in words what was done with it."""

    values: Tensor
    done: str


def read_inputs(x: Array, source: str, reading: Reading = AS_FOUND, *, name: str = "x", ids: bool = False) -> Inputs:
    """Convert an array [N, ...] to a tensor, with the channels in the first dimension of a sample.

    Args:
        x: the array.
        source: name of the data in messages.
        reading: settings where the rule does not decide.
        name: name of the input in messages.
        ids: whether integers are ids if no setting says otherwise, as integer tensors of a user's own set are.

    Raises:
        ValueError: for values that are no numbers, NaN or infinity (with the row), whole numbers that float32 does not
            hold, and arrays of which the rule cannot tell what they are.
    """
    if x.ndim < 2 or x.dtype.kind not in "uifb":
        raise ValueError(
            f"{source}: {name} is {x.dtype} of shape {x.shape}; give numbers of shape [N, ...], one entry per sample"
        )
    kind = _kind(x, source, reading, name, ids)
    before = f"{name}: {x.dtype} {list(x.shape[1:])}"
    if kind == "ids":
        return Inputs(values=torch.from_numpy(_whole(x, source, name)), done=f"{before}, ids, kept as int64")
    turned, layout = _channels_first(x, kind, source, reading, name)
    if kind == "pixels":
        values, scaling = _pixels(turned, source, reading, name)
    else:
        values, scaling = _numbers(turned, source, name), "numbers, kept as float32"
    return Inputs(values=values, done=f"{before}, {scaling}{layout}")


def _kind(x: Array, source: str, reading: Reading, name: str, ids: bool) -> Kind:
    if reading.values is not None or reading.max_value is not None:
        return reading.values or "pixels"
    if x.dtype == np.uint8:
        if x.ndim == 2:
            raise ValueError(
                f"{source}: {name} is uint8 of shape {x.shape}, which may be pixels, a table or ids; set data.values "
                f"to pixels (divided by 255), numbers (kept as they are) or ids (whole numbers for an embedding)"
            )
        return "pixels"
    return "ids" if ids and x.dtype.kind in "ui" else "numbers"


def _whole(x: Array, source: str, name: str) -> npt.NDArray[np.int64]:
    if x.dtype.kind not in "uib" and not (np.isfinite(x).all() and (x % 1 == 0).all()):
        raise ValueError(
            f"{source}: {name} holds {x.dtype} with fractions or NaN, and data.values is ids; store integers"
        )
    if x.size and x.min() < 0:
        row = _first_row(x < 0)
        raise ValueError(f"{source}: {name} holds the id {x[row].min()} in row {row}; ids are integers from 0 on")
    return as_int64(x, source, name)


def as_int64(array: Array, source: str, name: str) -> npt.NDArray[np.int64]:
    """Return whole numbers as int64. Raises ``ValueError`` for those that it does not hold, which numpy wraps."""
    if array.dtype.kind in "uf" and array.size:
        limits = np.iinfo(np.int64)
        if far := [end for end in map(int, (array.max(), array.min())) if not limits.min <= end <= limits.max]:
            raise ValueError(f"{source}: {name} holds {far[0]}, which does not fit in 64 bits; number them from 0")
    return np.array(array, np.int64)


def _pixels(x: Array, source: str, reading: Reading, name: str) -> tuple[Tensor, str]:
    by_type = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0, np.dtype(bool): 1.0}.get(x.dtype)
    largest = reading.max_value or by_type
    if largest is None:
        found = f"; the largest value is {x.max():g}" if x.size else ""
        raise ValueError(
            f"{source}: {name} is {x.dtype}, which has no largest pixel of its own{found}; set data.max_value to the "
            f"value that becomes 1, such as 255"
        )
    if x.dtype == np.uint8 and largest == 255:
        return torch.from_numpy(np.array(x, order="C")), "pixels, divided by 255"
    values = _numbers(x, source, name)
    if values.numel() and not (float(values.min()) >= 0 and float(values.max()) <= largest):
        raise ValueError(
            f"{source}: {name} holds pixels from {float(values.min()):g} to {float(values.max()):g} and the largest "
            f"value is {largest:g}; set data.max_value to the value that becomes 1, or data.values: numbers"
        )
    return values / largest, f"pixels, divided by {largest:.15g}"


def _numbers(x: Array, source: str, name: str) -> Tensor:
    bad = np.asarray(~np.isfinite(x.reshape(len(x), -1)).all(axis=1)) if x.dtype.kind == "f" else np.zeros(0, bool)
    if bad.any():
        raise ValueError(
            f"{source}: {name} has NaN or infinity in {bad.sum()} of {len(x)} samples, the first in row "
            f"{_first_row(bad)}; repair or drop them"
        )
    with np.errstate(over="ignore"):
        values = np.array(x, np.float32)  # a copy, because an array from a file may be read-only
    if x.dtype.kind in "uif" and x.dtype.itemsize > 2 and x.dtype != np.float32 and x.size:
        _refuse_losses(x, values, source, name)
    return torch.from_numpy(values)


def _refuse_losses(x: Array, values: npt.NDArray[np.float32], source: str, name: str) -> None:
    """Raise ``ValueError`` where float32 is too small for a number, or merges whole numbers."""
    largest = np.abs(values).max()
    if largest <= EXACT_IN_FLOAT32:
        return
    if not np.isfinite(largest):
        row = _first_row(~np.isfinite(values))
        raise ValueError(f"{source}: {name} has a number beyond the range of float32 in row {row}; scale the inputs")
    with np.errstate(invalid="ignore"):  # the largest whole numbers of a type round up beyond it
        changed = np.asarray(values.astype(x.dtype) != x)
    if x.dtype.kind in "ui":
        changed |= values >= float(np.iinfo(x.dtype).max)
    if (x.dtype.kind in "ui" or (x % 1 == 0).all()) and changed.any():
        row = _first_row(changed)
        raise ValueError(
            f"{source}: {name} holds whole numbers beyond {EXACT_IN_FLOAT32}, which float32 merges (the first in row "
            f"{row}); set data.values: ids if they are ids, or scale them"
        )


def _channels_first(x: Array, kind: Kind, source: str, reading: Reading, name: str) -> tuple[Array, str]:
    """Return pictures as [N, C, H, W] and what was done, in words."""
    if x.ndim == 3 and kind == "pixels":
        return x[:, None], ", one channel added"
    if x.ndim != 4:
        if reading.layout == "channels_last" and x.ndim > 2:
            return np.moveaxis(x, -1, 1), ", channels moved from the last dimension to the first"
        return x, ""
    layout = reading.layout or _found_layout(x.shape[1:])
    if layout is None or (reading.layout is None and layout == "channels_last" and kind != "pixels"):
        raise ValueError(
            f"{source}: {name} is {x.dtype} of shape {x.shape}, of which the channels may be the first or the last "
            f"dimension of a sample; set data.layout to channels_first ({x.shape[1]} channels, kept as it is) or "
            f"channels_last ({x.shape[3]} channels, which are moved to the front)"
        )
    if layout == "channels_first":
        return x, ", channels first"
    return x.transpose(0, 3, 1, 2), ", channels moved from the last dimension to the first"


def _found_layout(shape: tuple[int, ...]) -> Layout | None:
    """Return the layout of a sample by its shape, or None.

    If either end has 1 or 3 entries and the other has not, these are the channels; else, if two sizes next to each
    other agree and the third does not, the two are height and width.
    """
    first, middle, last = shape
    if (first in _COLOURS) != (last in _COLOURS):
        return "channels_first" if first in _COLOURS else "channels_last"
    if (middle == last) != (first == middle):
        return "channels_first" if middle == last else "channels_last"
    return None


def _first_row(bad: npt.NDArray[np.bool_]) -> int:
    return int(np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))[0])
