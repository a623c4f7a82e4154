"""Affinities of which some are not known: their means, and the groups that wait for them."""

from __future__ import annotations

from math import isnan, nan

import pytest

from raysplit.schedulers.grouping.known import PartAffinity, affinities_of, all_known, mean_known, unknown_pairs
from raysplit.schedulers.grouping.scores import Affinity, mean_affinity
from raysplit.schedulers.grouping.when import StableRanking, reason_to_split

ALL = affinities_of("abc", [[0, 1, 2], [3, 0, 4], [5, 6, 0]])


def test_a_mean_takes_each_pair_from_those_who_have_it() -> None:
    two = affinities_of("ab", [[7, 2], [5, 9]])
    other = affinities_of("c", [[1]])
    mean = mean_known([ALL, two, other], "abc")
    assert isinstance(mean, Affinity)
    assert mean.values == ((3.5, 1.5, 2), (4, 4.5, 4), (5, 6, 0.5))


def test_where_all_are_known_it_is_the_plain_mean() -> None:
    """The same bits as where every owner has every task."""
    thirds = affinities_of("abc", [[value / 3 for value in row] for row in ALL.values])
    assert mean_known([ALL, thirds, thirds], "abc") == mean_affinity([ALL, thirds, thirds])


def test_what_nobody_has_stays_unknown() -> None:
    mean = mean_known([affinities_of("ab", [[0, 1], [2, 0]]), affinities_of("c", [[3]])], "abc")
    assert isinstance(mean, PartAffinity)
    assert unknown_pairs(mean) == [("a", "c"), ("b", "c")]
    assert isnan(mean.values[0][2])
    assert mean.values[0][1] == 1
    with pytest.raises(ValueError, match="nobody has measured the affinity of a and c, b and c"):
        all_known([mean], "abc")
    assert all_known([mean, ALL], "abc").values[0][:2] == (0, 1)


def test_an_affinity_with_itself_need_not_be_known() -> None:
    assert affinities_of("ab", [[nan, 1], [2, nan]]) == Affinity(tasks=("a", "b"), values=((0, 1), (2, 0)))


def test_values_beyond_all_measure_are_refused_beside_unknown_ones() -> None:
    with pytest.raises(ValueError, match="must be finite"):
        affinities_of("ab", [[0, nan], [float("inf"), 0]])


def test_a_ranking_is_stable_only_once_all_pairs_are_known() -> None:
    part = affinities_of("abc", [[0, 1, nan], [3, 0, 4], [nan, 6, 0]])
    rule = StableRanking(num_rounds=2, min_correlation=1.0)
    assert reason_to_split(rule, [part, part, ALL, ALL], 4) is None
    assert reason_to_split(rule, [part, part, ALL, ALL, ALL], 5) is not None
