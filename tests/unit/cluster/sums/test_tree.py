"""Sums over owners along a tree: equal to double precision sums, and the same bits wherever parts of it are formed."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from raysplit.actors.aggregation import weighted_mean
from raysplit.cluster.sums.tree import LEAVES, ROOT, Node, weighted_sum, whole_nodes


def drawn(count: int, seed: int = 0) -> tuple[list[dict[str, Tensor]], list[float]]:
    gen = torch.Generator().manual_seed(seed)
    sizes = torch.rand(count, generator=gen, dtype=torch.float64) + 0.1
    states = [{"w": torch.randn(7, generator=gen), "count": torch.tensor(number)} for number in range(count)]
    return states, (sizes / sizes.sum()).tolist()


def test_nodes_are_split_by_the_last_binary_digits() -> None:
    even, odd = ROOT.halves
    assert (even, odd) == (Node(2, 0), Node(2, 1))
    assert odd.halves == (Node(4, 1), Node(4, 3))
    assert [number for number in range(8) if Node(4, 3).has(number)] == [3, 7]


def test_owners_dealt_out_in_turn_have_a_node_for_each_process() -> None:
    cohort = range(100)
    for places in (1, 2, 4, 8, LEAVES):
        for place in range(places):
            assert list(whole_nodes(cohort, cohort[place::places])) == [Node(places, place)]


def test_with_three_processes_only_small_nodes_are_whole() -> None:
    """Of owners 0 to 5, those at the first of three places are 0 and 3, each alone in its leaf."""
    assert list(whole_nodes(range(6), {0, 3})) == [Node(8, 0), Node(4, 3)]
    assert list(whole_nodes(range(100), range(0, 100, 3))) == []


def test_a_cohort_that_is_drawn_is_whole_where_all_its_members_are() -> None:
    assert list(whole_nodes([2, 17, 40, 66], {2, 40, 66})) == [Node(2, 0)]
    assert list(whole_nodes([2, 17, 40, 66], {2, 66})) == [Node(4, 2)]


@settings(max_examples=40, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 500), min_size=1, max_size=40, unique=True).map(sorted),
    places=st.integers(1, 9),
)
def test_the_number_of_processes_leaves_no_trace(numbers: list[int], places: int) -> None:
    states, weights = drawn(len(numbers))
    whole = weighted_mean(states, weights, numbers)
    sums = {}
    left: list[dict[str, Tensor] | None] = list(states)
    for place in range(1, places):  # the first place is the aggregator's
        here = {number for number in numbers if number % places == place}
        for node in whole_nodes(numbers, here):
            members = [i for i, number in enumerate(numbers) if node.has(number)]
            own = [states[i] for i in members]
            sums[node] = weighted_sum(own, [weights[i] for i in members], [numbers[i] for i in members], node=node)
            for i in members:
                left[i] = None
    apart = weighted_mean(left, weights, numbers, sums=sums, like=states[0])
    assert torch.equal(apart["w"], whole["w"])
    assert apart["count"] == whole["count"] == 0


def test_it_is_the_sum_in_double_precision() -> None:
    """The order of a sum changes bits that single precision does not have."""
    states, weights = drawn(100)
    expected = sum((state["w"].double() * weight for state, weight in zip(states, weights, strict=True)))
    assert isinstance(expected, Tensor)
    assert torch.equal(weighted_mean(states, weights)["w"], expected.float())
    found = weighted_sum(states, weights, range(100))["w"]
    assert found.dtype is torch.float64
    assert torch.allclose(found, expected, rtol=1e-14, atol=1e-16)


def test_the_tree_as_drawn() -> None:
    """Ones that vanish beside 2**53 show the order in which numbers are added.

    (0 + 16) | 8 and (1), where | joins halves: the leaf of 0 and 16 first, then with that of 8, then with that of 1.
    """
    big, one = 2.0**53, 1.0
    numbers, values = [0, 1, 8, 16], [big, one, -big, one]
    states = [{"w": torch.tensor([value], dtype=torch.float64)} for value in values]
    assert weighted_sum(states, [1.0] * 4, numbers)["w"].item() == one  # 16's was lost beside 0's
    assert weighted_sum(states, [1.0] * 4, [0, 8, 16, 24])["w"].item() == 2 * one  # now 0's and 8's share a leaf


def test_a_sum_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one state"):
        weighted_sum([], [], [])
