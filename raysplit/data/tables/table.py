"""A table as a data set: CSV or Parquet, one row per sample, encoded by a rule that says who has to know what.

Mean, deviation and categories stand in the configuration (``declared``), are said by the owners before the first round
(``federated``), or are taken from all training rows, which only a rehearsal has in one place (``fitted``). Test rows
decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow.csv
import pyarrow.parquet
import torch
from pydantic import Field
from torch import Tensor

from raysplit.data.failures import reading as reading_of
from raysplit.data.partition.stratify import TEST_FRACTION
from raysplit.data.reading import AS_FOUND, Reading
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sources.arrays import check_owners, split_by_class, split_sides
from raysplit.data.tables.columns import Coded, ColumnRules, Columns, Kind, bits, coded, columns_of, numbers
from raysplit.data.tables.encoder import Code, Encode, Missing, Raw, Unseen
from raysplit.data.tables.statistics import Moments, Statement, frequent, merged
from raysplit.data.tables.targets import targets_of
from raysplit.data.transforms import KeepIds, ToUnit
from raysplit.options import Count

Encoder = Literal["declared", "federated", "fitted"]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class TableRules:
    """How the inputs of a table are made; see `load_table`."""

    source: str
    columns: Columns
    names: Mapping[str, tuple[str, ...]]
    encode: Encode
    min_count: int
    unseen: Unseen
    missing: Missing

    def raw(self, samples: Samples, owner: Sequence[Any] | None) -> Raw:
        """Return the columns that samples hold."""
        assert not isinstance(samples.x, Tensor)
        size, found = len(samples), {name: value.numpy() for name, value in samples.x.items()}
        codes = found.get("codes", np.zeros((size, 0), np.int64))
        return Raw(
            numeric=found.get("numbers", np.zeros((size, 0))),
            binary=found.get("bits", np.zeros((size, 0))),
            categorical={
                name: Coded(codes=codes[:, i], names=self.names[name])
                for i, name in enumerate(self.columns.categorical)
            },
            owner=owner,
            rows=found["rows"],
        )

    def encoded(self, data: DataSet, code: Code, said: str, statements: tuple[Statement, ...] = ()) -> DataSet:
        """Return the data set of a code."""
        sides = []
        for samples, owner in ((data.train, data.natural_owner), (data.test, data.test_owner)):
            raw = self.raw(samples, None if owner is None else owner.tolist())
            x = code.inputs(
                raw, self.columns, self.source, encode=self.encode, unseen=self.unseen, missing=self.missing
            )
            sides.append(replace(samples, x=x))
        by_index = not isinstance(sides[0].x, Tensor)
        told = [f"{len(self.columns.numeric)} numeric columns, (value - mean) / deviation"] * bool(self.columns.numeric)
        told += [f"{len(self.columns.binary)} binary"] * bool(self.columns.binary)
        told += [f"{len(self.columns.categorical)} of categories ({self.encode})"] * bool(self.columns.categorical)
        transform = KeepIds(names=("categorical",)) if by_index else ToUnit()
        return replace(
            data,
            train=sides[0],
            test=sides[1],
            inputs={},
            input_shape=(),
            transform=transform,
            eval_transform=transform,
            sizes={"cardinalities": code.cardinalities()} if by_index else {},
            done=(f"x: {', '.join(told)}; {said}",),
            prepare=None,
            statements=statements,
        )

    def federated(self, data: DataSet, parts: Mapping[str, Indices]) -> DataSet:
        """Return the data set of the code that the owners' statements make, merged in their order."""
        owner = None if data.natural_owner is None else data.natural_owner.tolist()
        raw = self.raw(data.train, owner)
        statements = tuple(
            Statement(
                owner=name,
                numeric=self.columns.numeric,
                moments=Moments.of(raw.numeric[rows]),
                categories={
                    column: frequent(each.codes[rows], each.names, self.min_count)
                    for column, each in raw.categorical.items()
                },
            )
            for name, rows in parts.items()
        )
        moments, categories = merged(statements)
        said = (
            f"by what {len(statements)} owners say before the first round, categories with at least {self.min_count} "
            f"rows at an owner"
        )
        return self.encoded(data, Code(mean=moments.mean, std=moments.std, categories=categories), said, statements)


def load_table(
    path: Path,
    *,
    columns: dict[str, Kind | ColumnRules] | None = None,
    encoder: Encoder = "declared",
    encode: Encode = "one_hot",
    min_count: Count = 5,
    unseen: Unseen = "error",
    missing: Missing = "error",
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = TEST_FRACTION,
    reading: Reading = AS_FOUND,
) -> DataSet:
    """Load a data set from the rows of a CSV or Parquet file.

    Args:
        path: the file.
        columns: what columns are, each ``numeric``, ``categorical``, ``binary``, ``target``, ``owner``, ``split`` or
            ``ignore``, or a mapping with ``kind`` and ``mean``, ``std`` or ``categories``; others by their type.
        encoder: where mean, deviation and categories come from: the columns above (``declared``), a statement of each
            owner (``federated``), or all training rows (``fitted``).
        encode: categories as columns of 0 and 1 (``one_hot``), or as numbers for an embedding (``index``).
        min_count: rows that a category needs at an owner to be named, for ``federated``.
        unseen: what becomes of a category that has no code: an error, or one code for all ``other``.
        missing: what becomes of a missing number: an error, or the ``mean``, with a column that says so for each
            numeric one.
        test_fraction: share of the rows, of every class, that is held out where no column says ``split``.
        reading: what targets are.

    Raises:
        ValueError: for what does not fit, with column, owner, row and value.
    """
    source, table = str(path), _read(path)
    told: dict[str, Kind | ColumnRules] = {name: "target" for name, _ in reading.tasks}
    found = columns_of(table, told | (columns or {}), source)
    owner = None if found.owner is None else np.asarray(table[found.owner].to_pylist())
    if owner is not None:
        check_owners(owner, len(owner), f"{source}, column {found.owner!r}")
    whose = None if owner is None else owner.tolist()
    raw = Raw(
        numeric=_stacked([numbers(table, c, source, whose, may_miss=missing == "mean") for c in found.numeric], table),
        binary=_stacked([bits(table, c, found.rules.get(c), source, whose) for c in found.binary], table),
        categorical={name: coded(table, name) for name in found.categorical},
        owner=whose,
        rows=np.arange(table.num_rows),
    )
    targets = targets_of(table, found, source, reading, owner)
    x = {"numbers": raw.numeric, "bits": raw.binary}
    tensors = {name: torch.from_numpy(value) for name, value in x.items() if value.shape[1]}
    tensors["rows"] = torch.from_numpy(raw.rows)
    if raw.categorical:
        tensors["codes"] = torch.from_numpy(np.stack([each.codes for each in raw.categorical.values()], axis=1))
    samples = Samples(x=tensors, y=targets.y)
    split = None if found.split is None else np.asarray(table[found.split].to_pylist(), dtype=str)
    if split is None:
        train, test = split_by_class(targets.to_split_by, test_fraction)
    else:
        train, test = split_sides(split, len(samples), source)
    rules = TableRules(
        source=source,
        columns=found,
        names={name: each.names for name, each in raw.categorical.items()},
        encode=encode,
        min_count=min_count,
        unseen=unseen,
        missing=missing,
    )
    data = DataSet(
        train=samples.subset(train),
        test=samples.subset(test),
        num_classes=targets.num_outputs,
        transform=ToUnit(),
        eval_transform=ToUnit(),
        natural_owner=None if owner is None else owner[train],
        test_owner=None if owner is None else owner[test],
        label_names=targets.names,
        classes=targets.classes,
        done=("a table, encoded once the owners are known",),
        reading=reading,
        prepare=rules.federated,
    )
    if encoder == "federated":
        return data
    if encoder == "fitted":
        whole = replace(rules, min_count=1).federated(data, {"all": np.arange(len(data.train))})
        return replace(whole, statements=(), done=(whole.done[0].split(";")[0] + "; fitted on all training rows",))
    return rules.encoded(data, _declared(found, source), "by the configuration")


def _read(path: Path) -> Any:
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give the path of a .csv or .parquet file")
    of_parquet = partial(pyarrow.parquet.read_table, page_checksum_verification=True)
    reader = pyarrow.csv.read_csv if path.suffix == ".csv" else of_parquet
    with reading_of(path, "write the file again, with a line of column names in front of CSV"):
        table = reader(path)
        names = table.column_names
    if not table.num_rows:
        raise ValueError(f"{path} has no rows; give one per sample")
    if len(set(names)) < len(names):
        raise ValueError(f"{path} has two columns {next(n for n in names if names.count(n) > 1)!r}; rename one")
    return table


def _stacked(columns: Sequence[npt.NDArray[np.float64]], table: Any) -> npt.NDArray[np.float64]:
    return np.stack(columns, axis=1) if columns else np.zeros((table.num_rows, 0))


def _declared(columns: Columns, source: str) -> Code:
    """Return the code that the configuration says. Raises ``ValueError`` for a column of which it says nothing."""
    instead = "or set data.encoder: federated (owners say it before the first round) or fitted (rehearsals alone)"
    mean, std = [], []
    for name in columns.numeric:
        rules = columns.rules.get(name)
        if rules is None or rules.mean is None or rules.std is None:
            raise ValueError(
                f"{source}: the numeric column {name!r} has no mean and std; declare them, data.columns: {{{name}: "
                f"{{kind: numeric, mean: ..., std: ...}}}}, {instead}"
            )
        if rules.std <= 0:
            raise ValueError(f"{source}: the std of column {name!r} is {rules.std:g}; give a number above 0")
        mean.append(rules.mean)
        std.append(rules.std)
    categories = {}
    for name in columns.categorical:
        rules = columns.rules.get(name)
        if rules is None or rules.categories is None:
            raise ValueError(
                f"{source}: the column {name!r} has no categories; declare them, data.columns: {{{name}: {{kind: "
                f"categorical, categories: [...]}}}}, {instead}"
            )
        categories[name] = rules.categories
    return Code(mean=np.array(mean, np.float64), std=np.array(std, np.float64), categories=categories)
