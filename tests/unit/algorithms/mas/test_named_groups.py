"""Groups by name in place of groups by affinity, and affinities by other measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mas_support import rounds, train, with_algorithm
from support import same

from raysplit.algorithms.mas.mas import MAS
from raysplit.models.adapters.weights import write_weights
from raysplit.models.dense.net import group_state

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


async def _begun(algorithm: MAS) -> Any:
    await algorithm.regroup(0)
    return [(group.tasks, await group.aggregator.current()) for group in algorithm.groups]


def test_groups_begin_with_a_merged_model_from_a_file(tmp_path: Path) -> None:
    """One merged model can be the beginning of all its partitions."""
    merged = train("all_in_one").states["global"]
    file = tmp_path / "merged.safetensors"
    write_weights(merged, file)
    begins = {"partition": NAMED, "merged_rounds": 0}
    groups = with_algorithm(_begun, begins, model__weights=str(file))
    assert [tasks for tasks, _ in groups] == [("s", "k"), ("d",)]
    for tasks, state in groups:
        assert same(state, group_state(merged, tasks))
    result = train(begins, model__weights=str(file))
    assert result.rows[0]["num_groups"] == 2
    drawn = train(begins)
    assert not same(drawn.states["d"], result.states["d"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"merged_rounds": 0}, "partition is affinity; name the groups"),
        ({"merged_rounds": 0, "partition": [["s"], ["d"]], "new_tasks": {"k": 1}}, "new_tasks join by affinities"),
        ({"merged_rounds": -1}, "merged_rounds"),
    ],
)
def test_groups_that_begin_at_once_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        with_algorithm(_decided, options)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    write_weights({"decoders.q.0.weight": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="which the model has not"):
        train({"partition": NAMED, "merged_rounds": 0}, model__weights=str(file))


@pytest.mark.parametrize("measure", ["inner_product", "cosine"])
def test_measuring_by_gradients_changes_no_weight(measure: str) -> None:
    """Training is the same, bit for bit, whatever measures beside it."""
    usual, other = (train({"partition": NAMED, "affinity_by": by}) for by in ("lookahead", measure))
    assert all(
        torch.equal(value, other.states[label][key])
        for label, state in usual.states.items()
        for key, value in state.items()
    )
