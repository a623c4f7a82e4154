"""Averages that bear wrong updates, and updates that are refused, with their owner's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from disturbed import changes
from hypothesis import given, settings
from hypothesis import strategies as st
from support import same, train
from torch import Tensor

from raysplit.actors.aggregation import UpdateRefused, UpdateRules, fault_of, krum, trimmed_mean, weighted_mean
from raysplit.actors.records import NonFiniteLoss


def states(*rows: list[float]) -> list[dict[str, Tensor]]:
    return [{"w": torch.tensor(row, dtype=torch.float64), "count": torch.tensor(7)} for row in rows]


def test_the_median_by_coordinate() -> None:
    odd = UpdateRules(aggregation="median").combine(states([1, 9], [2, -5], [100, 0]), (1 / 3,) * 3)
    assert odd["w"].tolist() == [2, 0]
    assert odd["count"] == 7
    even = UpdateRules(aggregation="median").combine(states([1, 9], [2, -5], [100, 0], [3, 4]), (0.25,) * 4)
    assert even["w"].tolist() == [2.5, 2]


def test_the_trimmed_mean_leaves_out_both_ends() -> None:
    five = states([1, 0], [2, 0], [3, 6], [1000, 3], [-1000, 100])
    assert trimmed_mean(five, 1)["w"].tolist() == [2, 3]
    assert trimmed_mean(five, 0)["w"].tolist() == pytest.approx([1.2, 21.8])
    with pytest.raises(ValueError, match="of 4 updates cannot leave out 2 at either end"):
        trimmed_mean(five[:4], 2)


def test_krum_takes_the_one_in_the_thick_of_it() -> None:
    """Seven updates on a line, two wrong; squared distances to the three nearest: 17.25, 8.25, 7.25, 20.75, ..."""
    seven = states([0.0, 0], [1.0, 0], [2.0, 0], [3.5, 0], [9.0, 0], [500, 500], [501, 500])
    assert krum(seven, 2) == 2
    with pytest.raises(ValueError, match="Krum needs 7 updates to tolerate 2 wrong ones, and got 6"):
        krum(seven[:6], 2)


def test_krum_is_not_fooled_by_two_who_agree() -> None:
    """The wrong two are next to each other, but far from the n - f - 2 = 3 nearest."""
    assert krum(states([0, 0], [0.5, 0], [0, 0.4], [0.3, 0.3], [0.1, 0.1], [80, 80], [80, 80]), 2) == 4


def test_without_wrong_ones_nothing_is_lost() -> None:
    same_states = states([1, 2], [1, 2], [1, 2], [1, 2], [1, 2])
    for name in ("mean", "median", "trimmed_mean", "krum"):
        assert UpdateRules(aggregation=name).combine(same_states, (0.2,) * 5)["w"].tolist() == [1, 2]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=5, max_size=9), st.floats(-1e6, 1e6))
def test_one_wrong_update_stays_within_the_others(values: list[float], wrong: float) -> None:
    updates = states(*[[v] for v in values], [wrong])
    weights = (1 / len(updates),) * len(updates)
    for name in ("median", "trimmed_mean"):
        (found,) = UpdateRules(aggregation=name).combine(updates, weights)["w"].tolist()
        assert min(values) - 1e-6 <= found <= max(values) + 1e-6


BEFORE = {"w": torch.zeros(2, 3), "b": torch.zeros(3, dtype=torch.float64)}


@pytest.mark.parametrize(
    ("update", "fault"),
    [
        ({"w": torch.ones(2, 3), "b": torch.ones(3, dtype=torch.float64)}, None),
        ({"w": torch.ones(2, 3)}, "'b' is missing"),
        ({**BEFORE, "x": torch.ones(1)}, "'x' is unknown"),
        ({**BEFORE, "w": torch.ones(3, 2)}, "w is torch.float32 [3, 2] and should be torch.float32 [2, 3]"),
        ({**BEFORE, "b": torch.ones(3)}, "b is torch.float32 [3] and should be torch.float64 [3]"),
        ({**BEFORE, "w": torch.full((2, 3), 3e38)}, None),  # finite, and their sum is not
        ({**BEFORE, "w": torch.full((2, 3), float("nan"))}, "w has values that are not finite"),
        ({**BEFORE, "b": torch.tensor([0, 0, float("-inf")]).double()}, "b has values that are not finite"),
    ],
)
def test_faults(update: dict[str, Tensor], fault: str | None) -> None:
    assert fault_of(update, BEFORE, None) == fault


def test_the_norm_is_over_all_weights() -> None:
    update = {"w": torch.ones(2, 3), "b": torch.ones(3, dtype=torch.float64)}  # nine ones
    assert fault_of(update, BEFORE, 3.0) is None
    assert fault_of(update, BEFORE, 2.9) == "its distance from the average before is 3, and max_update_norm is 2.9"


def test_a_refusal_names_owner_and_round() -> None:
    with pytest.raises(UpdateRefused, match="the update of owner-4 in round 8 is refused: 'b' is missing") as caught:
        UpdateRules().check("owner-4", 7, {"w": torch.ones(2, 3)}, BEFORE)
    assert (caught.value.owner, caught.value.round) == ("owner-4", 7)


# -- runs --------------------------------------------------------------------------------------------------------------


def data_with_a_monster(tmp_path: Any) -> dict[str, Any]:
    """Three owners, of whom owner-1 has a sample that overflows when it is normalised."""
    rng = np.random.default_rng(0)
    x, y, owner = rng.normal(size=(120, 10)).astype(np.float32), np.arange(120) % 5, np.arange(120) % 3
    x[1] = 3e38
    split = np.where(np.arange(120) < 90, "train", "test")
    np.savez(tmp_path / "data.npz", x=x, y=y, owner=owner, split=split)
    return {
        "data": {"name": str(tmp_path / "data.npz"), "mean": [0.0], "std": [0.1]},
        "partition": {"name": "natural_id", "num_owners": 3},
    }


@pytest.mark.parametrize("name", ["fedavg", "splitnn", "splitfed_v1", "minibatch_sfl", "mpsl", "mtsl"])
def test_a_bad_owner_is_named_dropped_and_in_the_end_excluded(name: str, tmp_path: Any, caplog: Any) -> None:
    """Every round repeats once without it, until it is excluded after the second."""
    rules = {"on_bad_update": "drop", "exclude_after": 2}
    more = changes(name, {"rounds": 4, "batch_size": 16, "optimizer": {"lr": 0.01}}, **data_with_a_monster(tmp_path))
    if name == "mtsl":
        more["algorithm"] = {"name": "mtsl", "cut": 1}
    with pytest.raises(NonFiniteLoss, match="owner-1"):
        train(**more)
    found = train(**more, reliability=rules)
    assert [row["num_owners"] for row in found.rows] == [2, 2, 2, 2]
    assert caplog.text.count("the update of owner-1 was refused") == 2
    assert all(torch.isfinite(v).all() for v in found.states.get("global", found.states.get("owner-0", {})).values())


def test_an_update_that_goes_too_far_is_refused() -> None:
    with pytest.raises(
        UpdateRefused, match=r"the update of owner-\d in round 1 is refused: its distance .* max_update_norm is 1e-05"
    ):
        train(**changes("fedavg", reliability={"max_update_norm": 1e-5}))
    with pytest.raises(UpdateRefused, match="max_update_norm is 1e-05"):
        train(**changes("mpsl", reliability={"max_update_norm": 1e-5}))
    limit = {"max_update_norm": 1e5}
    assert same(train(**changes("mpsl", reliability=limit)), train(**changes("mpsl")))


@pytest.mark.parametrize("name", ["fedavg", "splitfed_v1", "mpsl"])
def test_runs_with_robust_averages(name: str) -> None:
    """With three owners the trimmed mean of one is the median; both differ from the mean."""
    mean, median, trimmed = (
        train(**changes(name, reliability={"aggregation": a})) for a in ("mean", "median", "trimmed_mean")
    )
    assert same(median, trimmed)
    assert not same(median, mean)


def test_the_mean_is_the_weighted_mean() -> None:
    assert weighted_mean(states([0, 0], [1, 3]), (0.25, 0.75))["w"].tolist() == [0.75, 2.25]
