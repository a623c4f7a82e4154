"""The targets of a table: one column, several as one target [N, k], or several tasks with a column each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch import Tensor

from raysplit.data.labels import Numbered
from raysplit.data.reading import Reading
from raysplit.data.tables.columns import Columns, coded, place
from raysplit.data.targets.arrays import num_outputs, read_targets


@dataclass(frozen=True, kw_only=True, eq=False)
class Targets:
    """The targets of the rows.

    Attributes:
        y: one target [N, ...], or that of each task by name.
        num_outputs: number of outputs that a model needs, the largest over the tasks.
        names: the label of each class of one target.
        classes: names of the classes of each task that has some.
    """

    y: Tensor | Mapping[str, Tensor]
    num_outputs: int
    names: tuple[str, ...] | None = None
    classes: Mapping[str, tuple[str, ...]] | None = None

    @property
    def to_split_by(self) -> Tensor:
        """The target whose classes are divided in proportion: the first with classes, or the first."""
        if isinstance(self.y, Tensor):
            return self.y
        return self.y[next(iter(self.classes or self.y))]


def targets_of(table: Any, columns: Columns, source: str, reading: Reading, owner: Any) -> Targets:
    """Return the targets of a table; those of several tasks by name where ``data.tasks`` says what they are."""
    if not reading.tasks:
        found = _targets(table, columns, source, reading, owner)
        return Targets(y=found.sides[0], num_outputs=_count(found, reading), names=found.names)
    y: dict[str, Tensor] = {}
    classes: dict[str, tuple[str, ...]] = {}
    counts = []
    for name in columns.target:
        own = reading.of(name)
        found = _targets(table, replace(columns, target=(name,)), source, own, owner, is_one_of_several=True)
        (y[name],), count = found.sides, _count(found, own)
        counts.append(count)
        if own.task in (None, "classification") and not y[name].is_floating_point():
            classes[name] = found.names or tuple(map(str, range(count)))
    return Targets(y=y, num_outputs=max(counts), classes=classes or None)


def _count(found: Numbered, reading: Reading) -> int:
    return (
        len(found.names) if found.names else num_outputs(found.sides, reading.task, ignore_index=reading.ignore_index)
    )


def _targets(
    table: Any, columns: Columns, source: str, reading: Reading, owner: Any, *, is_one_of_several: bool = False
) -> Numbered:
    """Return the target of each row, or the targets [N, k] of several columns."""
    found = []
    for name in columns.target:
        rules = columns.rules[name]
        if rules.categories is None:
            found.append(_target(table, name, source, owner))
            continue
        own = coded(table, name)
        number = {category: code for code, category in enumerate(rules.categories)}
        strange = np.array([*(each not in number for each in own.names), True])[own.codes]  # the last is a missing one
        if strange.any():
            row = int(strange.argmax())
            value = "missing" if own.codes[row] < 0 else repr(own.names[own.codes[row]])
            raise ValueError(
                f"{place(source, name, row, owner)} is {value}, which is not among its declared categories "
                f"{', '.join(rules.categories)}; add it, or repair the row"
            )
        found.append(np.array([number[each] for each in own.names], np.int64)[own.codes])
    names = columns.rules[columns.target[0]].categories if len(columns.target) == 1 else None
    y = found[0] if len(found) == 1 else np.stack(found, axis=1)
    label = f"{source}, column {' and '.join(columns.target)}"
    read = read_targets([y], [len(y)], label, reading, owner, is_one_of_several=is_one_of_several)
    return replace(read, names=read.names or names)


def _target(table: Any, name: str, source: str, owner: Any) -> npt.NDArray[Any]:
    column = table[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if column.null_count:
        row = column.to_pylist().index(None)
        raise ValueError(f"{place(source, name, row, owner)} is missing; give every row a target, or drop it")
    return np.asarray(column.to_numpy(zero_copy_only=False))
