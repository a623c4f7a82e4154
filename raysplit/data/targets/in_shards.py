"""The targets of streamed files: what the columns of all files are, known from the test samples and the footers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from raysplit.data.inputs import Values
from raysplit.data.labels import numbered
from raysplit.data.reading import AS_FOUND, Reading
from raysplit.data.samples import Samples
from raysplit.data.sources.files import to_numpy
from raysplit.data.targets.arrays import may_be_labels, missing_label, num_outputs, read_targets
from raysplit.tasks import KINDS, inferred_kind

LABELS = "y"
"""Name of the one target of files that say nothing else."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """The column of a target.

    Attributes:
        name: its name.
        kind: the kind of task; None for class labels of which nothing is said.
        num_outputs: number of classes, labels, tokens or numbers; None where it is not known yet.
        missing: the class that says that there is none; None where every sample has one.
    """

    name: str = LABELS
    kind: str | None = None
    num_outputs: int | None = None
    missing: int | None = None

    @property
    def has_labels(self) -> bool:
        """Whether a sample has one class label."""
        return self.kind in (None, "classification")

    def read(self, rows: Any, source: str) -> Tensor:
        """Return the targets of some rows of a table. Raises ``ValueError``."""
        array, size = self.array(rows, source), len(rows)
        if not self.has_labels:
            return read_targets(
                [array], [size], source, Reading(task=self.kind, ignore_index=self.missing), name=self.name
            ).sides[0]
        (labels,) = numbered([array], [size], source, name=self.name, missing=self.missing).sides
        self.check_labels([int(labels.max())] if len(labels) else [], source)
        return labels

    def array(self, rows: Any, source: str) -> Any:
        """Return the column of some rows as an array."""
        return to_numpy(rows[self.name], f"{source}, column {self.name}")

    def check_labels(self, labels: Iterable[Any], source: str) -> None:
        """Raise ``ValueError`` for a label that is none of the classes."""
        count = self.num_outputs
        for label in labels:
            is_number = isinstance(label, int | float) and label != self.missing
            if count is not None and is_number and not 0 <= label < count:
                raise ValueError(
                    f"{source}: column {self.name} has the label {label:g} and there are {count} classes, 0 to "
                    f"{count - 1}; repair the label, or set data.num_classes"
                )


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of all targets.

    Attributes:
        each: the columns.
        has_names: whether targets keep their names.
    """

    each: tuple[Column, ...] = (Column(),)
    has_names: bool = False

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.each]

    @property
    def num_outputs(self) -> int:
        """The largest number of outputs of any target."""
        return max(column.num_outputs or 1 for column in self.each)

    @property
    def by_name(self) -> dict[str, int]:
        """The number of outputs of each of several targets."""
        return {column.name: column.num_outputs or 1 for column in self.each} if self.has_names else {}

    @property
    def classes(self) -> dict[str, tuple[str, ...]] | None:
        """The classes of each of several targets that has some, named by their numbers; None where none has."""
        named = [column for column in self.each if self.has_names and column.has_labels]
        return {column.name: tuple(map(str, range(column.num_outputs or 1))) for column in named} or None

    def read(self, rows: Any, source: str) -> Values:
        """Return the targets of some rows of a table. Raises ``ValueError``."""
        found = {column.name: column.read(rows, source) for column in self.each}
        return found if self.has_names else found[self.each[0].name]


ONE_LABEL = Columns()


def columns_of(targets: Sequence[str] | None, reading: Reading = AS_FOUND) -> Columns:
    """Return the columns that the settings name, without what the samples say of them."""
    told = [name for name, _ in reading.tasks]
    names = list(targets or told or [LABELS])
    each = tuple(_column(name, reading.of(name), is_one_of_several=len(names) > 1) for name in names)
    return Columns(each=each, has_names=names != [LABELS])


def _column(name: str, reading: Reading, *, is_one_of_several: bool) -> Column:
    missing = missing_label(reading, is_one_of_several=is_one_of_several)
    if reading.task not in (None, "classification") and reading.ignore_index is None:
        missing = KINDS[reading.task].usual_ignored
    return Column(name=name, kind=reading.task, missing=missing)


def with_kinds(columns: Columns, rows: Any, source: str) -> Columns:
    """Return the columns with the kinds that the test samples say by their types where no setting does."""
    found = []
    for column in columns.each:
        array = column.array(rows, source)
        if column.kind is None and not may_be_labels(array):
            (y,) = read_targets([array], [len(rows)], source, AS_FOUND, name=column.name).sides
            kind = inferred_kind(y) or ""
            column = replace(column, kind=kind, missing=KINDS[kind].usual_ignored)
        found.append(column)
    return replace(columns, each=tuple(found))


def ranges_of(file: Any, name: str) -> list[tuple[float, float]]:
    """Return the smallest and the largest number of a column in each row group that says them, also in lists.

    Writers may leave them out.
    """
    footer, found = file.metadata, []
    paths = [file.schema.column(i).path.partition(".")[0] for i in range(len(file.schema))]
    for i in range(footer.num_row_groups if name in paths else 0):
        known = footer.row_group(i).column(paths.index(name)).statistics
        if known is None or not known.has_min_max:
            continue
        low, high = known.min, known.max
        if (
            isinstance(low, int | float)
            and isinstance(high, int | float)
            and math.isfinite(low)
            and math.isfinite(high)
        ):
            found.append((low, high))
    return found


def with_outputs(
    columns: Columns,
    given: int | Mapping[str, int] | None,
    test: Samples,
    files: Sequence[Any],
) -> Columns:
    """Return the columns with their numbers of outputs.

    Args:
        columns: the columns with their kinds.
        given: ``data.num_classes``, by target where there are several.
        test: the test samples.
        files: the training files, of which the footers are read.

    Raises:
        ValueError: one number is given for several targets, or one for a target that there is not.
    """
    if columns.has_names and given is not None and not isinstance(given, Mapping):
        raise ValueError(
            f"data.num_classes is {given}, and there are the targets {', '.join(columns.names)}; give a number for "
            f"each that needs one: {{{columns.names[0]}: {given}}}"
        )
    said = given if isinstance(given, Mapping) else {} if given is None else {columns.names[0]: given}
    if strange := said.keys() - set(columns.names):
        raise ValueError(
            f"data.num_classes names {min(strange)!r}, and the targets are {', '.join(columns.names)}; name some of "
            f"them"
        )
    found = []
    for column in columns.each:
        own = test.y if isinstance(test.y, Tensor) else test.y[column.name]
        count = num_outputs([own], column.kind, [test.x], column.missing)
        if not own.is_floating_point() and column.kind != "multi_label":
            largest = [int(value) for file in files for _, value in ranges_of(file, column.name)]
            count = max([count, *(value + 1 for value in largest if value != column.missing)])
        found.append(replace(column, num_outputs=said.get(column.name, count)))
    return replace(columns, each=tuple(found))
