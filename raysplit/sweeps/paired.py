"""Intervals of paired differences, and the choice of a run and a round on validation samples.

Seeds pair runs: the methods of a seed share data, shards and initial weights, so that their difference varies less than
either. The interval is Student's, over the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, TypeVar

K = TypeVar("K")

LEVEL = 0.95
"""Confidence level of all intervals."""
VALIDATION_LOSS = "val_loss"
"""Column that choices follow."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean over seeds with its interval.

    Attributes:
        mean: the mean.
        half: half of the width of the interval; None for a single value, of which nothing is known.
        count: the number of values.
    """

    mean: float
    half: float | None
    count: int

    @property
    def low(self) -> float:
        return -math.inf if self.half is None else self.mean - self.half

    @property
    def high(self) -> float:
        return math.inf if self.half is None else self.mean + self.half

    def __str__(self) -> str:
        return f"{self.mean:+.3g}" if self.half is None else f"{self.mean:+.3g} ± {self.half:.2g}"


def interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Return Student's interval of the mean of values; None where there are none.

    Example:
        >>> str(interval([1.0, 2.0, 3.0]))
        '+2 ± 2.5'
    """
    if not values:
        return None
    if len(values) == 1:
        return Interval(mean=values[0], half=None, count=1)
    from scipy.special import stdtrit  # imported late, because it takes a second

    quantile = float(stdtrit(len(values) - 1, (1 + level) / 2))
    return Interval(mean=fmean(values), half=quantile * stdev(values) / math.sqrt(len(values)), count=len(values))


def paired(these: Mapping[Any, float], those: Mapping[Any, float]) -> dict[Any, float]:
    """Return the differences of the values that both have, by what pairs them, such as the seed."""
    return {key: value - those[key] for key, value in these.items() if key in those}


def lowest(columns: Mapping[K, Sequence[float | None]]) -> tuple[K, int] | None:
    """Return the run and the index of its round with the lowest value; the first of equal ones.

    None where no run has a value. Values that are missing or not finite are left out.
    """
    found = [
        (value, order, index, key)
        for order, (key, column) in enumerate(columns.items())
        for index, value in enumerate(column)
        if value is not None and math.isfinite(value)
    ]
    if not found:
        return None
    _, _, index, key = min(found, key=lambda entry: entry[:3])
    return key, index
