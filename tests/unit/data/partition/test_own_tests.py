"""Whose a test sample is: named by the data, or divided by the classes of the owners' training samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysplit.data.partition.laws import partition, partition_test
from raysplit.data.partition.own_tests import divided_tests, named_tests, own_tests

LABELS = np.repeat(np.arange(5), 80)
TEST_LABELS = np.repeat(np.arange(5), 20)
BY_LABEL: dict[str, dict[str, Any]] = {
    "dirichlet": {"alpha": 0.3},
    "pathological": {"num_classes_per_partition": 2},
    "shard": {"num_shards_per_partition": 2},
    "noniid_ratio": {"ratio": 0.8},
}


def counts(parts: list[np.ndarray], labels: np.ndarray) -> np.ndarray:
    return np.stack([np.bincount(labels[part], minlength=5) for part in parts])


def test_samples_that_name_their_owner_are_its_own() -> None:
    """Owner b has no sample; x trains nowhere, so that its samples are nobody's."""
    found = own_tests(
        "natural_id",
        [],
        LABELS,
        TEST_LABELS,
        seed=0,
        natural_owner=np.array(["c", "a", "b", "a"]),
        test_owner=np.array(["a", "x", "c", "a"]),
    )
    assert found is not None
    assert [part.tolist() for part in found] == [[0, 3], [], [2]]
    assert [part.tolist() for part in named_tests(["c", "a"], np.array(["a", "c"]))] == [[1], [0]]


def test_nothing_is_divided_where_nothing_says_how(caplog: pytest.LogCaptureFixture) -> None:
    """Data without owners of tests, owners that are all unknown, equal classes everywhere, and tasks without any."""
    parts = partition("iid", LABELS, 4, seed=0)
    natural = {"natural_owner": np.arange(400) % 4}
    assert own_tests("natural_id", parts, LABELS, TEST_LABELS, seed=0, **natural) is None
    strangers = natural | {"test_owner": np.full(100, 9)}
    assert own_tests("natural_id", parts, LABELS, TEST_LABELS, seed=0, **strangers) is None
    assert "no test sample has an owner with training samples" in caplog.text
    for name in ("iid", "quantity"):
        assert own_tests(name, parts, LABELS, TEST_LABELS, seed=0) is None
    zeros = np.zeros(400, np.int64)
    assert own_tests("dirichlet", parts, zeros, zeros[:100], seed=0) is None


@pytest.mark.parametrize("name", BY_LABEL)
def test_an_owner_is_tested_on_the_classes_that_it_trains_on(name: str) -> None:
    """All samples of classes that somebody has, each once; the shares are those of training, rounded down or up."""
    parts = partition(name, LABELS, 6, seed=3, **BY_LABEL[name])
    found = own_tests(name, parts, LABELS, TEST_LABELS, seed=3)
    assert found is not None
    held, tested = counts(parts, LABELS), counts(found, TEST_LABELS)
    assert tested.sum(0).tolist() == [20 if total else 0 for total in held.sum(0)]
    assert len(np.unique(np.concatenate(found))) == sum(map(len, found))
    exact = held / np.maximum(held.sum(0), 1) * 20
    assert np.abs(tested - exact).max() < 1
    assert (tested[held == 0] == 0).all()
    assert np.abs(tested.sum(1) - exact.sum(1)).max() < 1.5
    again = own_tests(name, parts, LABELS, TEST_LABELS, seed=3)
    assert again is not None
    assert all(np.array_equal(one, other) for one, other in zip(found, again, strict=True))


def test_known_shares() -> None:
    """Class 0: 4 samples by 3 to 1; class 1: 3 by 1 to 1, the odd one to the first; class 2 is nobody's."""
    labels = np.array([0, 0, 0, 0, 1, 1])
    parts = [np.array([0, 1, 2, 4]), np.array([3, 5])]
    found = divided_tests(parts, labels, np.array([0, 1, 0, 1, 0, 1, 0, 2]), seed=0)
    assert counts(found, np.array([0, 1, 0, 1, 0, 1, 0, 2])).tolist() == [[3, 2, 0, 0, 0], [1, 1, 0, 0, 0]]


@given(st.data())
def test_no_sample_has_two_owners_and_none_of_a_held_class_is_lost(data: st.DataObject) -> None:
    labels = np.array(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=30)))
    test_labels = np.array(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=30)))
    owner_of = np.array(data.draw(st.lists(st.integers(0, 4), min_size=len(labels), max_size=len(labels))))
    parts = [np.flatnonzero(owner_of == owner) for owner in range(5)]
    found = np.concatenate(divided_tests(parts, labels, test_labels, seed=1))
    assert sorted(found) == np.flatnonzero(np.isin(test_labels, labels)).tolist()


# -- main_label ---------------------------------------------------------------------------------------------------


def test_classes_are_counted_once_over_both_sides() -> None:
    """Four classes in training and the last one missing among the tests: each side counted its own classes.

    So owner 4, whose main class is 0, was tested on class 4 modulo 3, and owner 3 on class 0.
    """
    labels, test_labels = np.repeat(np.arange(4), 50), np.repeat(np.arange(3), 50)
    rules = {"alpha": 0.2, "num_classes": 4}
    parts = partition("main_label", labels, 8, seed=0, samples_per_owner=40, **rules)
    tests = partition_test("main_label", test_labels, 8, seed=0, test_samples_per_owner=20, **rules)
    assert tests is not None
    assert counts(parts, labels).argmax(1).tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert [len(test) for test in tests] == [19, 19, 19, 0, 19, 19, 19, 0]  # 17 + 1 + 1, and class 3 is left out
    assert [counts([test], test_labels).argmax() for test in tests if len(test)] == [0, 1, 2, 0, 1, 2]


def test_a_class_in_the_middle_may_lack_tests_too() -> None:
    tests = partition_test(
        "main_label", np.array([0, 2, 2, 0]), 3, seed=0, alpha=0.0, test_samples_per_owner=2, num_classes=3
    )
    assert tests is not None
    assert [test.tolist() for test in tests] == [[0, 3], [], [1, 2]]


def test_a_class_without_training_samples_is_named() -> None:
    with pytest.raises(ValueError, match=r"no sample has label 4 of 0\.\.4, the labels of both sides"):
        partition("main_label", np.arange(4), 2, seed=0, alpha=0.5, samples_per_owner=8, num_classes=5)
