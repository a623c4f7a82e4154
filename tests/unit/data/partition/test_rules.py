"""What holds for every law whatever its parameters, and what is said when a rule is broken."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysplit.data.partition.laws import load_partition, partition, partition_names, save_partition

LABELS = np.repeat(np.arange(4), 25)

fraction = st.floats(0, 1, allow_nan=False)
PARAMETERS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "iid": st.just({}),
    "dirichlet": st.fixed_dictionaries(
        {"alpha": st.floats(0.05, 50), "self_balancing": st.booleans(), "min_partition_size": st.integers(0, 3)}
    ),
    "pathological": st.fixed_dictionaries(
        {
            "num_classes_per_partition": st.integers(1, 3),
            "class_assignment_mode": st.sampled_from(["random", "deterministic", "first-deterministic"]),
        }
    ),
    "shard": st.fixed_dictionaries(
        {
            "num_shards_per_partition": st.none() | st.integers(1, 4),
            "shard_size": st.none() | st.integers(1, 9),
            "keep_incomplete_shard": st.booleans(),
        }
    ),
    "noniid_ratio": st.fixed_dictionaries({"ratio": fraction}),
    "quantity": st.fixed_dictionaries(
        {
            "law": st.sampled_from(["linear", "square", "exponential", "dirichlet"]),
            "alpha": st.floats(0.05, 50),
            "min_partition_size": st.integers(1, 3),
        }
    ),
    "main_label": st.fixed_dictionaries({"alpha": fraction, "samples_per_owner": st.integers(1, 120)}),
    "natural_id": st.just({}),
}


def test_every_law_is_drawn_below() -> None:
    assert set(PARAMETERS) == set(partition_names())


@pytest.mark.parametrize("name", partition_names())
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_parts_are_sorted_non_empty_disjoint_and_the_same_again(name: str, data: st.DataObject) -> None:
    """Or else the law says what is wrong; main_label alone may use a sample twice."""
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=120)))
    num_owners, seed = data.draw(st.integers(1, 12)), data.draw(st.integers(0, 2**40))
    params = data.draw(PARAMETERS[name])
    if name == "natural_id":
        params["natural_owner"] = np.arange(len(labels)) % min(num_owners, len(labels))
    try:
        parts = partition(name, labels, num_owners, seed=seed, **params)
    except ValueError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert name in refusal or "owners for" in refusal
        return
    assert len(parts) == num_owners
    used = np.concatenate(parts)
    assert used.min() >= 0
    assert used.max() < len(labels)
    for part in parts:
        assert part.dtype == np.int64
        assert len(part) > 0
        assert np.all(np.diff(part) >= 0)
    if name != "main_label":
        assert len(set(used.tolist())) == len(used)
    if name in ("iid", "dirichlet", "quantity", "natural_id"):
        assert len(used) == len(labels)
    if name == "noniid_ratio":
        assert {len(part) for part in parts} == {len(labels) // num_owners}
    if name == "main_label":
        assert {len(part) for part in parts} == {params["samples_per_owner"]}
    again = partition(name, labels, num_owners, seed=seed, **params)
    assert [part.tolist() for part in parts] == [part.tolist() for part in again]


@pytest.mark.parametrize("name", sorted(set(partition_names()) - {"natural_id"}))
def test_another_seed_gives_other_samples(name: str) -> None:
    params = {
        "dirichlet": {"alpha": 1.0},
        "pathological": {"num_classes_per_partition": 2},
        "shard": {"num_shards_per_partition": 2},
        "noniid_ratio": {"ratio": 0.5},
        "main_label": {"alpha": 0.5, "samples_per_owner": 20},
    }.get(name, {})
    first, second = (partition(name, LABELS, 4, seed=seed, **params) for seed in (0, 1))
    assert [part.tolist() for part in first] != [part.tolist() for part in second]


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=10), data=st.data())
def test_any_partition_comes_back_from_its_file(sizes: list[int], data: st.DataObject, tmp_path_factory: Any) -> None:
    indices = st.integers(0, 2**40)
    parts = [np.array(data.draw(st.lists(indices, min_size=n, max_size=n)), np.int64) for n in sizes]
    path = tmp_path_factory.mktemp("parts") / "partition.parquet"
    save_partition(path, parts)
    assert [part.tolist() for part in load_partition(path)] == [part.tolist() for part in parts]


BROKEN: list[tuple[str, int, dict[str, Any], str]] = [
    ("iid", 101, {}, "101 owners for 100 samples"),
    ("iid", 0, {}, "0 owners for 100 samples"),
    ("iid", 2, {"alpha": 1}, "partition.alpha: iid has no such option .known: none"),
    ("dirichlet", 4, {}, r"partition.alpha: is missing; dirichlet needs it"),
    ("dirichlet", 4, {"alpha": 0}, "alpha is 0.0; give one number above 0, or one for each of the 4 owners"),
    ("dirichlet", 4, {"alpha": [1, 2]}, r"alpha is \[1.0, 2.0\]"),
    ("dirichlet", 4, {"alpha": 1, "min_partition_size": 26}, "min_partition_size is 26 .* give 0 to 25"),
    (
        "dirichlet",
        4,
        {"alpha": 0.001, "min_partition_size": 25},
        r"owner \d has \d+ samples with alpha 0\.001 after 10",
    ),
    ("pathological", 4, {"num_classes_per_partition": 5}, "num_classes_per_partition is 5 and the data have 4 classes"),
    ("pathological", 4, {"num_classes_per_partition": 0}, "num_classes_per_partition is 0; it must be above 0"),
    (
        "pathological",
        4,
        {"num_classes_per_partition": 1, "class_assignment_mode": "best"},
        "'best'; give one of random",
    ),
    ("shard", 4, {}, "give num_shards_per_partition, shard_size or both"),
    ("shard", 4, {"shard_size": 40}, "4 owners need 4 shards and 100 samples give 2 of size 40"),
    ("shard", 4, {"num_shards_per_partition": 30}, "4 owners need 120 shards"),
    ("shard", 4, {"shard_size": -1}, "shard_size is -1"),
    ("noniid_ratio", 4, {"ratio": 1.1}, r"ratio is 1\.1; give a share from 0 to 1"),
    ("noniid_ratio", 4, {"ratio": float("nan")}, "partition.ratio: must be a finite number"),
    ("quantity", 4, {"law": "cubic"}, "'cubic'; give one of linear, square, exponential, dirichlet"),
    ("quantity", 20, {"law": "exponential"}, "owner 0 gets 0 of 100 samples"),
    ("quantity", 4, {"law": "dirichlet", "alpha": 0.01, "min_partition_size": 20}, r"owner \d gets \d+ of 100 samples"),
    ("natural_id", 2, {}, "these data name no owners"),
    ("natural_id", 2, {"natural_owner": np.arange(100) % 3}, "the data name 3 owners and num_owners is 2; set it to 3"),
    ("natural_id", 2, {"natural_owner": np.arange(3)}, "3 owner ids for 100 samples"),
    ("main_label", 4, {"alpha": -0.1}, r"alpha is -0\.1"),
    ("main_label", 4, {"alpha": 0.5, "samples_per_owner": 0}, "samples_per_owner is 0"),
    ("main_label", 4, {"alpha": 0.5, "num_main_labels": 5}, "num_main_labels is 5 and the data have 4 classes"),
    (
        "dirichle",
        4,
        {"alpha": 1},
        r"unknown partition 'dirichle'; did you mean 'dirichlet'\? \(one of iid, dirichlet, ",
    ),
]


@pytest.mark.parametrize(("name", "num_owners", "params", "says"), BROKEN)
def test_broken_rules_are_named(name: str, num_owners: int, params: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        partition(name, LABELS, num_owners, seed=0, **params)


def test_an_owner_left_without_a_sample_is_named() -> None:
    """Owners 0 and 2 hold class 0, which has one sample."""
    law = {"num_classes_per_partition": 1, "class_assignment_mode": "deterministic"}
    with pytest.raises(ValueError, match="partition pathological leaves owner 2 without a sample"):
        partition("pathological", np.array([0, 1, 1]), 3, seed=0, **law)


def test_labels_must_be_a_row_of_integers() -> None:
    for labels in (np.zeros((4, 2), int), np.zeros(4)):
        with pytest.raises(ValueError, match="a partition needs integers of shape"):
            partition("iid", labels, 2, seed=0)


def test_a_class_without_samples_is_named_by_main_label() -> None:
    with pytest.raises(ValueError, match=r"no sample has label 1 of 0\.\.2"):
        partition("main_label", np.array([0, 2]), 2, seed=0, alpha=0.5)
