"""Intervals of paired differences and the choice on validation samples, on numbers drawn by hand."""

from __future__ import annotations

import math

import pytest

from raysplit.sweeps.paired import interval, lowest, paired


def test_an_interval_is_students() -> None:
    """Of 1, 2, 3 the deviation is 1, and Student's quantile for two degrees of freedom is 4.303."""
    found = interval([1.0, 2.0, 3.0])
    assert found is not None
    assert found.mean == 2
    assert found.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-5)
    assert (found.low, found.high) == (found.mean - (found.half or 0), found.mean + (found.half or 0))


def test_of_a_single_seed_nothing_is_known() -> None:
    found = interval([5.0])
    assert found is not None
    assert found.half is None
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert str(found) == "+5"
    assert interval([]) is None


def test_only_what_both_have_is_paired() -> None:
    assert paired({0: 3.0, 1: 5.0, 2: 9.0}, {1: 4.0, 0: 1.0}) == {0: 2.0, 1: 1.0}


def test_the_lowest_of_all_runs_and_rounds_is_chosen() -> None:
    """Missing and infinite values count for nothing; of equal ones the first is chosen."""
    columns = {"fast": [None, 0.4, math.nan], "slow": [0.9, 0.3, 0.3], "dead": [math.inf]}
    assert lowest(columns) == ("slow", 1)
    assert lowest({"dead": [math.nan, None], "empty": []}) is None
