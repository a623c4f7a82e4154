"""What each column of a table is, by the settings or by its type, and the columns as numbers and codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raysplit.registry import nearest, shown
from raysplit.schedulers.rules import Rules

Kind = Literal["numeric", "categorical", "binary", "target", "owner", "split", "ignore"]
Numbers = npt.NDArray[np.float64]


class ColumnRules(Rules):
    """What a column is, and what is known of its values."""

    kind: Kind
    """Use of the column."""
    mean: float | None = None
    """Mean of a numeric column, which is subtracted."""
    std: float | None = None
    """Standard deviation of a numeric column, by which it is divided."""
    categories: tuple[str, ...] | None = None
    """Categories of a categorical, binary or target column, in the order of their codes."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of a table by their use, each in the order of the table."""

    numeric: tuple[str, ...]
    binary: tuple[str, ...]
    categorical: tuple[str, ...]
    target: tuple[str, ...]
    owner: str | None
    split: str | None
    rules: Mapping[str, ColumnRules]


@dataclass(frozen=True, kw_only=True, eq=False)
class Coded:
    """A column of categories: the code of each row [N], -1 where it is missing, and the names in sorted order."""

    codes: npt.NDArray[np.int64]
    names: tuple[str, ...]


def columns_of(table: pa.Table, given: Mapping[str, Kind | ColumnRules], source: str) -> Columns:
    """Return the columns of a table by the settings, and by their types where these say nothing.

    Raises ``ValueError`` for a column that is not there, columns of a type that no model takes, and a table without
    target or inputs.
    """
    names = table.column_names
    if unknown := [name for name in given if name not in names]:
        near = nearest(unknown[0], names)
        raise ValueError(f"{source}: data.columns names {unknown[0]!r}, no column there{near}; it has {shown(names)}")
    rules = {name: rule if isinstance(rule, ColumnRules) else ColumnRules(kind=rule) for name, rule in given.items()}
    kinds = {name: rules[name].kind if name in rules else _kind(table.schema.field(name), source) for name in names}

    def of(kind: Kind) -> tuple[str, ...]:
        return tuple(name for name in names if kinds[name] == kind)

    for kind in ("owner", "split"):
        if len(found := of(kind)) > 1:
            raise ValueError(f"{source}: {' and '.join(found)} are columns of kind {kind}; there is one at most")
    if not of("target"):
        raise ValueError(
            f"{source}: no column is the target; name it, such as data.columns: {{{names[-1]}: target}} (columns: "
            f"{shown(names)})"
        )
    if not (of("numeric") or of("binary") or of("categorical")):
        raise ValueError(f"{source}: no column is an input; give numeric, binary or categorical columns")
    return Columns(
        numeric=of("numeric"),
        binary=of("binary"),
        categorical=of("categorical"),
        target=of("target"),
        owner=next(iter(of("owner")), None),
        split=next(iter(of("split")), None),
        rules=rules,
    )


def _kind(field: Any, source: str) -> Kind:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_boolean(kind):
        return "binary"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "numeric"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "categorical"
    raise ValueError(
        f"{source}: column {field.name!r} has the type {field.type}, which is no input; set data.columns: "
        f"{{{field.name}: ignore}}, or write numbers or text"
    )


def numbers(table: pa.Table, name: str, source: str, owner: Sequence[Any] | None, *, may_miss: bool) -> Numbers:
    """Return a numeric column as float64 [N] with NaN for missing values.

    Raises ``ValueError`` for text, infinity, and for missing values unless they may be, with column, owner, row, value.
    """
    column = _plain(table[name])
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        values = column.to_pylist()
        found = np.array([_number(value) for value in values], np.float64)
        wrong = np.array([value is not None and np.isnan(x) for value, x in zip(values, found, strict=True)], bool)
    else:
        found = np.asarray(pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False), np.float64)
        values, wrong = found, np.zeros(len(found), bool)
    bad = wrong | np.isinf(found)
    if not may_miss:
        bad |= np.isnan(found)
    if bad.any():
        row = int(bad.argmax())
        value = "missing" if not wrong[row] and np.isnan(found[row]) else repr(np.asarray(values)[row].item())
        way = "repair it, or declare the column categorical or ignore"
        if not wrong[row]:
            way = "repair or drop the row, or set data.missing: mean" if np.isnan(found[row]) else "repair the row"
        raise ValueError(f"{place(source, name, row, owner)} is {value}; a numeric column has numbers, so {way}")
    return found


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")


def coded(table: pa.Table, name: str) -> Coded:
    """Return a column of categories; the names of other types are their text."""
    column = _plain(table[name])
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    text = pc.cast(column, pa.string())
    if text.null_count or len(text):
        text = pc.if_else(pc.equal(text, ""), None, text)
    names = sorted(value for value in pc.unique(text).to_pylist() if value is not None)
    at = pc.fill_null(pc.index_in(text, pa.array(names, pa.string())), -1)
    return Coded(codes=np.asarray(at.to_numpy(zero_copy_only=False), np.int64), names=tuple(names))


def bits(table: pa.Table, name: str, rules: ColumnRules | None, source: str, owner: Sequence[Any] | None) -> Numbers:
    """Return a binary column as 0 and 1 [N]: true and 1 are 1, and so is the second of two declared categories.

    Raises ``ValueError`` for other values and missing ones.
    """
    found, declared = coded(table, name), rules.categories if rules is not None else None
    if declared is not None and len(declared) != 2:
        raise ValueError(f"{source}: the binary column {name!r} declares {len(declared)} categories; declare two")
    known = {declared[0]: 0.0, declared[1]: 1.0} if declared else {"false": 0.0, "true": 1.0, "0": 0.0, "1": 1.0}
    values = np.array([known.get(each, np.nan) for each in found.names] + [np.nan])[found.codes]
    if np.isnan(values).any():
        row = int(np.isnan(values).argmax())
        value = "missing" if found.codes[row] < 0 else repr(found.names[found.codes[row]])
        raise ValueError(
            f"{place(source, name, row, owner)} is {value}; a binary column has {' and '.join(list(known)[-2:])}, so "
            f"repair it, give the column two categories, or declare it categorical"
        )
    return np.asarray(values, np.float64)


def _plain(column: Any) -> Any:
    column = column.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def place(
    source: str, name: str, row: int, owner: Sequence[Any] | None, rows: npt.NDArray[np.int64] | None = None
) -> str:
    """Name the column, the row and its owner; ``rows`` has where each row stands in the file, if not in its place."""
    at = row if rows is None else rows[row]
    return f"{source}: column {name!r}, row {at}" + (f" (owner {owner[row]})" if owner is not None else "")
