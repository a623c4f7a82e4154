"""Groups by name in place of groups by affinity, and affinities by other measures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mas_support import rounds, train, with_algorithm

from raysplit.algorithms.mas.mas import MAS

NAMED = [["k", "s"], ["d"]]


async def _decided(algorithm: MAS) -> tuple[Any, Any]:
    await rounds(algorithm, 0, 1)
    return algorithm.phase.groups, algorithm


def test_groups_are_those_that_are_named() -> None:
    """They stand in the order of the tasks, whatever the affinities say, and the decision tells their score."""
    groups, algorithm = with_algorithm(_decided, {"partition": NAMED})
    assert groups == (("s", "k"), ("d",))
    (decision,) = algorithm.decisions
    assert decision["groups"] == groups
    assert decision["partition"] == (("k", "s"), ("d",))


def test_a_control_of_one_group_can_be_named() -> None:
    groups, _ = with_algorithm(_decided, {"partition": [["s", "d", "k"]]})
    assert groups == (("s", "d", "k"),)


@pytest.mark.parametrize(
    ("groups", "more", "words"),
    [
        ([["s"], ["d"]], {}, "must name each of the merged tasks"),
        ([["s", "k", "s"], ["d"]], {}, "must name each of the merged tasks"),
        ([["s", "x"], ["d"]], {}, "must name each of the merged tasks"),
        ([["s", "k"], ["d"]], {"num_groups": 3}, "leave num_groups out"),
    ],
)
def test_every_task_is_named_once(groups: list[list[str]], more: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        with_algorithm(_decided, {"partition": groups, **more})


@pytest.mark.parametrize("measure", ["inner_product", "cosine"])
def test_measuring_by_gradients_changes_no_weight(measure: str) -> None:
    """Training is the same, bit for bit, whatever measures beside it."""
    usual, other = (train({"partition": NAMED, "affinity_by": by}) for by in ("lookahead", measure))
    assert all(
        torch.equal(value, other.states[label][key])
        for label, state in usual.states.items()
        for key, value in state.items()
    )
