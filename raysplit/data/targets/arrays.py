"""Targets of raw arrays: which task they are of, and the number of outputs that a model needs for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysplit.data.inputs import Values
from raysplit.data.labels import NO_LABEL, Numbered, numbered
from raysplit.data.reading import Reading, as_int64
from raysplit.tasks import KINDS, Task, inferred_kind
from raysplit.tasks.checks import likely_kinds

Array = npt.NDArray[Any]


def read_targets(
    sides: Sequence[Array],
    sizes: Sequence[int],
    source: str,
    reading: Reading,
    owner: Array | None = None,
    *,
    name: str = "y",
    is_one_of_several: bool = False,
) -> Numbered:
    """Check the targets of all sides (training, test) and return them as tensors.

    Where no setting says what they are, whole numbers [N] and text are class labels, and numbers with fractions [N]
    those of a regression.

    Args:
        sides: the targets of each side.
        sizes: number of samples of each side.
        source: name of the data in messages.
        reading: the settings, with the kind of the task.
        owner: owner of each sample of the only side, for messages.
        name: name of the targets in messages.
        is_one_of_several: whether samples have other targets too, and may lack this one.

    Raises:
        ValueError: for another length, and as `numbered` for class labels.
    """
    if reading.task == "classification" or (reading.task is None and all(map(may_be_labels, sides))):
        missing = missing_label(reading, is_one_of_several=is_one_of_several)
        for y in sides:
            if reading.task == "classification" and y.ndim > 1 and y.dtype.kind in "uifb":
                _task_of("classification", [], reading).check(_tensor(y, source, None, name), f"{source}: {name}")
        renumber = reading.renumber_labels
        return numbered(sides, sizes, source, renumber=renumber, owner=owner, name=name, missing=missing)
    if reading.renumber_labels:
        raise ValueError(
            f"{source}: data.renumber_labels numbers class labels, and these targets are none; leave it out"
        )
    for y, size in zip(sides, sizes, strict=True):
        if y.dtype.kind not in "uifb":
            raise ValueError(f"{source}: {name} holds {y.dtype}, such as {y.reshape(-1)[:1].tolist()}; {_NUMBERS}")
        if not y.ndim or len(y) != size:
            raise ValueError(
                f"{source}: {name} has shape {y.shape} and x has {size} samples; give one entry per sample"
            )
    found = Numbered(sides=tuple(_tensor(y, source, reading.task, name) for y in sides))
    if reading.task is None and any(inferred_kind(y) is None for y in found.sides):
        likely = " or ".join(likely_kinds(found.sides[0])) or f"one of {', '.join(KINDS)}"
        raise ValueError(
            f"{source}: {name} has shape {sides[0].shape}, and without a task there is one label or number per sample, "
            f"or a mask [H, W] of whole numbers; set task to {likely}"
        )
    kind = reading.task or inferred_kind(found.sides[0]) or ""
    for side in found.sides:
        _check(_task_of(kind, found.sides, reading), side, f"{source}: {name}", owner)
    return found


_NUMBERS = "give numbers, or take task: classification for labels that are words"


def missing_label(reading: Reading, *, is_one_of_several: bool) -> int | None:
    """Return the label that says that a sample has none, where settings or other targets allow it."""
    if reading.ignore_index is not None:
        return reading.ignore_index
    return NO_LABEL if is_one_of_several or reading.task == "classification" else None


def _task_of(kind: str, sides: Sequence[Tensor], reading: Reading) -> Task:
    outputs = num_outputs(sides, kind, ignore_index=reading.ignore_index) if sides else 1
    return KINDS[kind](num_outputs=outputs, ignore_index=reading.ignore_index)


def _check(task: Task, y: Tensor, what: str, owner: Array | None) -> None:
    """Raise ``ValueError``, with the row of the array and its owner, for targets that are not of the task."""
    try:
        task.check(y, what)
    except ValueError:
        if owner is None or owner.shape != (len(y),) or not _takes_none(task, y):
            raise
        row = _first_wrong(task, y)
        task.check(y[row : row + 1], f"{what} of owner {owner[row]}", first_row=row)


def _takes_none(task: Task, y: Tensor) -> bool:
    """Whether a task takes no rows of these targets, so that their type and shape are right."""
    try:
        task.check(y[:0], "")
    except ValueError:
        return False
    return True


def _first_wrong(task: Task, y: Tensor) -> int:
    right, wrong = 0, len(y)  # rows before the one are right, and there is one that is not before the other
    while wrong - right > 1:
        middle = (right + wrong) // 2
        try:
            task.check(y[right:middle], "")
            right = middle
        except ValueError:
            wrong = middle
    return right


def said_of(sides: Sequence[Array], reading: Reading) -> tuple[str, ...]:
    """Return in words what targets are taken for, where their type leaves it open."""
    if reading.task is None and all(y.dtype.kind == "f" and may_be_labels(y) for y in sides):
        return (f"y: {sides[0].dtype} without fractions, class labels; task: regression takes them as numbers",)
    return ()


def may_be_labels(y: Array) -> bool:
    """Return whether targets are labels unless a task says otherwise: one text or number without fraction each."""
    if y.ndim != 1:
        return y.ndim == 0 or y.dtype.kind not in "uifb"
    return y.dtype.kind != "f" or bool((y[np.isfinite(y)] % 1 == 0).all())


def _tensor(y: Array, source: str, kind: str | None, name: str) -> Tensor:
    if y.dtype.kind == "f" or kind == "regression":  # whole amounts are numbers too, no labels
        return torch.from_numpy(np.array(y, np.float32))
    if y.dtype == np.uint8 and y.ndim > 1:
        return torch.from_numpy(np.array(y))
    return torch.from_numpy(as_int64(y, source, name))


def num_outputs(
    sides: Sequence[Tensor], kind: str | None, inputs: Sequence[Values] = (), ignore_index: int | None = None
) -> int:
    """Return the number of outputs that a model needs for these targets: classes, tokens, labels or numbers.

    Args:
        sides: targets of each side.
        kind: the kind of task; None decides by type.
        inputs: inputs of each side, whose tokens belong to the vocabulary of a language model.
        ignore_index: the class that does not count, where a setting says it.
    """
    first = sides[0]
    if first.is_floating_point() or kind == "regression" or (kind == "multi_label" and first.ndim > 1):
        return first.shape[1] if first.ndim > 1 else 1
    usual = KINDS[kind or inferred_kind(first) or "classification"].usual_ignored
    ignored = usual if ignore_index is None else ignore_index
    known = [y[y.ne(NO_LABEL if ignored is None else ignored)] for y in sides]
    largest = [int(y.max()) for y in known if len(y)]
    if kind == "language_model":
        largest += [int(x.max()) for x in inputs if isinstance(x, Tensor) and not x.is_floating_point()]
    return max([1, *[one + 1 for one in largest]])
