"""What an owner says of its columns before the first round, and the sums over owners.

Of a numeric column an owner says the number of its values, their mean and the sum of squared differences from it; of a
categorical one the names of categories that have enough rows. Moments are merged in the order of the owners by the rule
of Chan, Golub and LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample variances".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

BYTES_PER_COLUMN = 24
"""Bytes that an owner says of a numeric column: count, mean and squares as float64."""
_ANSWERED_PER_COLUMN = 16  # mean and deviation


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Moments of k columns, without missing values.

    Attributes:
        count: number of values of each column [k].
        mean: their mean [k].
        squares: sum of squared differences from the mean [k].
    """

    count: Numbers
    mean: Numbers
    squares: Numbers

    @staticmethod
    def of(values: Numbers) -> Moments:
        """Return the moments of the columns of ``values`` [N, k], where NaN is a missing value."""
        is_there = ~np.isnan(values)
        count = is_there.sum(axis=0).astype(np.float64)
        known = np.where(is_there, values, 0.0)
        mean = known.sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(is_there, values - mean, 0.0) ** 2).sum(axis=0)
        return Moments(count=count, mean=mean, squares=squares)

    def merged(self, other: Moments) -> Moments:
        """Return the moments of the values of both."""
        count = self.count + other.count
        share = other.count / np.maximum(count, 1)
        delta = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + delta * share,
            squares=self.squares + other.squares + delta**2 * self.count * share,
        )

    @property
    def std(self) -> Numbers:
        """Standard deviation of all values [k], and 1 for a column whose values are all the same."""
        found = np.sqrt(self.squares / np.maximum(self.count, 1))
        return np.where(found > 0, found, 1.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Statement:
    """What one owner says of its columns.

    Attributes:
        owner: its name.
        numeric: names of the numeric columns.
        moments: their moments.
        categories: by categorical column, the sorted names of its categories with enough rows.
    """

    owner: str
    numeric: tuple[str, ...]
    moments: Moments
    categories: Mapping[str, tuple[str, ...]]

    @property
    def num_bytes(self) -> int:
        """Bytes of the numbers and of the names in UTF-8."""
        names = sum(len(name.encode()) for names in self.categories.values() for name in names)
        return BYTES_PER_COLUMN * len(self.numeric) + names

    def plain(self, received_bytes: int) -> dict[str, Any]:
        """Return what has left the owner, and the size of the answer, as plain data."""
        return {
            "owner": self.owner,
            "value": "statistic",
            "mechanism": "none",
            "bytes": self.num_bytes,
            "received_bytes": received_bytes,
            "numeric": list(self.numeric),
            "categories": {column: list(names) for column, names in self.categories.items()},
        }


def frequent(codes: npt.NDArray[np.int64], names: Sequence[str], min_count: int) -> tuple[str, ...]:
    """Return the sorted names of categories with at least ``min_count`` rows; a code of -1 is a missing value."""
    counts = np.bincount(codes[codes >= 0], minlength=len(names))
    return tuple(sorted(name for name, count in zip(names, counts, strict=True) if count >= min_count))


def merged(statements: Sequence[Statement]) -> tuple[Moments, dict[str, tuple[str, ...]]]:
    """Return the moments of all owners' values, and by column the sorted union of the categories that they name."""
    moments = reduce(Moments.merged, [statement.moments for statement in statements])
    columns = statements[0].categories
    return moments, {
        column: tuple(sorted({name for statement in statements for name in statement.categories[column]}))
        for column in columns
    }


def answer_bytes(statements: Sequence[Statement]) -> int:
    """Return the bytes of the code that each owner receives: two numbers for a numeric column, and all names."""
    names = sum(len(name.encode()) for found in merged(statements)[1].values() for name in found)
    return _ANSWERED_PER_COLUMN * len(statements[0].numeric) + names
