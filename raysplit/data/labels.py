"""Class labels: checked, numbered from 0, and counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysplit.data.sequences.ragged import Ragged

Array = npt.NDArray[Any]

RENUMBER = "set data.renumber_labels: true to number the labels that occur from 0"
"""The way out for labels that are not 0..C-1."""

NO_LABEL = -100
"""Label of a sample that has none for a task; losses and metrics leave it out."""

_MAX_NAMED = 8  # classes in a message


@dataclass(frozen=True, kw_only=True, eq=False)
class Numbered:
    """Labels as class indices.

    Attributes:
        sides: class indices of each side, int64 [N].
        names: the label of each class, where labels were renumbered.
    """

    sides: tuple[Tensor, ...]
    names: tuple[str, ...] | None = None


def numbered(
    sides: Sequence[Array],
    sizes: Sequence[int],
    source: str,
    *,
    renumber: bool = False,
    owner: Array | None = None,
    name: str = "y",
    missing: int | None = None,
) -> Numbered:
    """Check the labels of all sides (training, test) and return class indices.

    Args:
        sides: the labels of each side.
        sizes: number of samples of each side.
        source: name of the data in messages.
        renumber: whether the labels that occur are numbered from 0, in their order; they may then be text.
        owner: owner of each sample of the only side, for messages.
        name: name of the labels in messages.
        missing: the label that says that there is none; None where every sample has one.

    Raises:
        ValueError: for another length, a missing label, and without ``renumber`` for labels other than whole numbers
            from 0 on; the message has the row and its owner.
    """
    labels = _Labels(source=source, name=name, owner=owner, renumber=renumber, missing=missing)
    for y, size in zip(sides, sizes, strict=True):
        labels.check(y, size)
    if not renumber:
        return Numbered(sides=tuple(torch.from_numpy(y.astype(np.int64)) for y in sides))
    joined = np.concatenate([_plain(y) for y in sides])
    is_told = missing is not None and missing < 0 and joined.dtype.kind in "if"  # others are numbers of classes
    known = joined != missing if is_told else np.ones(len(joined), bool)
    names, numbers = np.unique(joined[known], return_inverse=True)
    codes = np.full(len(joined), missing or 0, np.int64)
    codes[known] = numbers.reshape(-1)
    pieces = np.split(codes, np.cumsum([len(y) for y in sides])[:-1])
    return Numbered(sides=tuple(map(torch.from_numpy, pieces)), names=tuple(map(_name, names.tolist())))


def _plain(y: Array) -> Array:
    return y.astype(str) if y.dtype.kind == "O" else y


def _name(label: Any) -> str:
    return f"{label:g}" if isinstance(label, float) else str(label)


def _is_whole(label: Any) -> bool:
    try:
        return float(label) % 1 == 0
    except (TypeError, ValueError):
        return False


@dataclass(frozen=True, kw_only=True, eq=False)
class _Labels:
    """What is to be checked of labels, and how they are called in messages."""

    source: str
    name: str
    owner: Array | None
    renumber: bool
    missing: int | None

    def check(self, y: Array, num_samples: int) -> None:
        """Raise ``ValueError`` for labels of one side that cannot be numbered."""
        what, renumber = f"{self.source}: {self.name}", self.renumber
        if y.shape != (num_samples,):
            raise ValueError(f"{what} has shape {y.shape} and x has {num_samples} samples; give one label per sample")
        if y.dtype.kind in "OUS":
            missing = np.array([label is None or label != label or label == "" for label in y.tolist()], bool)
            self._refuse(missing, y, "give every sample a label")
            if not renumber and y.size:
                words = np.array([not _is_whole(label) for label in y.tolist()], bool)
                if words.any() and not words.all():  # a wrong one among labels, rather than labels that are words
                    self._refuse(words, y, f"give integers 0..C-1, or {RENUMBER}")
                raise ValueError(f"{what} holds text such as {y.tolist()[0]!r}; {RENUMBER}, or give integers 0..C-1")
            return
        if y.dtype.kind not in "uifb":
            raise ValueError(f"{what} holds {y.dtype} values; labels must be integers 0..C-1")
        if y.dtype.kind == "f":
            self._refuse(~np.isfinite(y), y, "give every sample a label")
            self._refuse(y % 1 != 0, y, "labels must be integers 0..C-1; task: regression takes numbers")
        if not renumber and y.size and y.dtype.kind != "b":
            none = "" if self.missing is None else f", {self.missing} where there is none"
            negative = y < 0 if self.missing is None else (y < 0) & (y != self.missing)
            self._refuse(negative, y, f"labels must be integers 0..C-1{none}, or {RENUMBER}")
            far = y >= max(10_000, 10 * num_samples)
            self._refuse(far, y, f"that many classes are more than the samples can have, so {RENUMBER}")

    def _refuse(self, bad: npt.NDArray[np.bool_], y: Array, rule: str) -> None:
        if not bad.any():
            return
        row = int(bad.argmax())
        known = self.owner is not None and self.owner.shape == y.shape
        of_owner = f" (owner {self.owner[row]})" if known and self.owner is not None else ""
        others = f", and {bad.sum() - 1} more like it" if bad.sum() > 1 else ""
        raise ValueError(f"{self.source}: {self.name} is {y.tolist()[row]!r} in row {row}{of_owner}{others}; {rule}")


def check_targets(y: Tensor) -> None:
    """Raise ``ValueError`` unless targets are numbers, class labels [N] in int64, or classes of pixels or tokens."""
    if y.ndim and (y.is_floating_point() or y.dtype == torch.int64 or (y.ndim > 1 and y.dtype == torch.uint8)):
        return
    raise ValueError(
        f"y is {y.dtype} of shape {tuple(y.shape)}; class labels must be int64 of shape [N], other targets numbers or "
        f"classes of shape [N, ...], one entry per sample"
    )


def check_classes(y: Tensor, num_classes: int, what: str, ragged: Ragged | None = None) -> None:
    """Raise ``ValueError``, beginning with ``what`` and the row, for a class label beyond the number of classes."""
    if y.is_floating_point() or not y.numel() or int(y.max()) < num_classes:
        return
    first = (y >= num_classes).nonzero()[0]
    row = int(first[0]) if ragged is None else ragged.sample_of(int(first[0]))
    raise ValueError(
        f"{what} {row} is {int(y[tuple(first)])} and there are {num_classes} classes; labels are 0 to "
        f"{num_classes - 1}, so give more classes or other labels"
    )


def has_target(y: Tensor) -> Tensor:
    """Return which samples have a target, [B]: a class label other than `NO_LABEL`, or any valid pixel.

    A pixel is valid that is not NaN, or not 0 where pixels are classes.
    """
    if y.ndim == 1:
        return ~y.isnan() if y.is_floating_point() else y != NO_LABEL
    valid = ~y.isnan() if y.is_floating_point() else y != 0
    return valid.flatten(1).any(dim=1)


def without_samples(counts: Sequence[int]) -> list[int]:
    """Return the classes that do not occur."""
    return [label for label, count in enumerate(counts) if not count]


def listed(labels: Sequence[int]) -> str:
    """Name the first of some classes, and count the others."""
    more = f" and {len(labels) - _MAX_NAMED} more" if len(labels) > _MAX_NAMED else ""
    return ", ".join(map(str, labels[:_MAX_NAMED])) + more
