"""Each law gives the class statistics that are known for it in advance."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from raysplit.data.partition.laws import (
    load_partition,
    partition,
    partition_names,
    partition_report,
    partition_test,
    save_partition,
)

BALANCED = np.repeat(np.arange(10), 5000)  # as CIFAR-10
SMALL = np.repeat(np.arange(4), 25)


def _histogram(parts: list[np.ndarray], labels: np.ndarray) -> list[list[int]]:
    return [np.bincount(labels[part], minlength=labels.max() + 1).tolist() for part in parts]


# ratio r: top-class share r + (1 - r) / 10 and total variation distance 0.9 r, both up to sampling noise; a sorted
# shard straddles two classes where the random share took unequally from them, which costs up to 0.01 at r = 0.5
RATIO_TABLE = [
    # r, owners, size, top-class share, TV distance
    (0.0, 10, 5000, 0.106, 0.015),
    (0.0, 100, 500, 0.122, 0.052),
    (0.5, 10, 5000, 0.544, 0.444),
    (0.5, 100, 500, 0.544, 0.446),
    (0.75, 10, 5000, 0.770, 0.670),
    (0.75, 100, 500, 0.770, 0.671),
    (0.9, 10, 5000, 0.907, 0.807),
    (0.9, 100, 500, 0.902, 0.805),
    (0.95, 10, 5000, 0.952, 0.852),
    (0.95, 100, 500, 0.952, 0.852),
    (1.0, 10, 5000, 1.000, 0.900),
    (1.0, 100, 500, 1.000, 0.900),
]


@pytest.mark.parametrize(("ratio", "num_owners", "size", "top_class_share", "tv_distance"), RATIO_TABLE)
def test_noniid_ratio_statistics(
    ratio: float, num_owners: int, size: int, top_class_share: float, tv_distance: float
) -> None:
    """Sizes are 5,000 and 500 at 0.9 too, where a floating-point floor gives 4,999 and 499."""
    reports = [
        partition_report(partition("noniid_ratio", BALANCED, num_owners, seed=seed, ratio=ratio), BALANCED)
        for seed in range(3)
    ]
    assert {int(s) for report in reports for s in report.sizes} == {size}
    assert np.mean([report.top_class_share for report in reports]) == pytest.approx(top_class_share, abs=0.008)
    assert np.mean([report.tv_distance for report in reports]) == pytest.approx(tv_distance, abs=0.008)


def test_noniid_ratio_one_gives_one_class_each() -> None:
    for owner, row in enumerate(_histogram(partition("noniid_ratio", BALANCED, 10, seed=0, ratio=1.0), BALANCED)):
        assert row[owner] == 5000


def test_noniid_ratio_drops_fewer_samples_than_owners() -> None:
    assert [len(part) for part in partition("noniid_ratio", SMALL[:59], 8, seed=0, ratio=0.3)] == [7] * 8


def test_iid_uses_everything_in_equal_shares() -> None:
    assert [len(part) for part in partition("iid", SMALL, 8, seed=0)] == [13, 13, 13, 13, 12, 12, 12, 12]


def test_dirichlet_goes_from_one_owner_per_class_to_equal_shares() -> None:
    uneven, even = (
        partition_report(partition("dirichlet", BALANCED, 10, seed=1, alpha=alpha, min_partition_size=0), BALANCED)
        for alpha in (0.3, 1000.0)
    )
    assert uneven.sizes.sum() == even.sizes.sum() == 50_000
    assert uneven.tv_distance.mean() > 0.35
    assert even.tv_distance.max() < 0.05


def test_dirichlet_takes_one_alpha_per_owner() -> None:
    sizes = [len(p) for p in partition("dirichlet", BALANCED, 3, seed=0, alpha=[1000, 2000, 1000])]
    assert [round(size / 50_000, 2) for size in sizes] == [0.25, 0.5, 0.25]


def test_self_balancing_gives_no_class_to_owners_above_the_mean() -> None:
    """With one class per draw an owner passes the mean by one class at most."""
    sizes = [
        len(p)
        for p in partition("dirichlet", BALANCED, 5, seed=0, alpha=0.1, self_balancing=True, min_partition_size=0)
    ]
    assert sum(sizes) == 50_000
    assert max(sizes) < 10_000 + 5_000


def test_pathological_deterministic_gives_consecutive_classes() -> None:
    parts = partition(
        "pathological", SMALL, 4, seed=0, num_classes_per_partition=2, class_assignment_mode="deterministic"
    )
    assert _histogram(parts, SMALL) == [
        [13, 13, 0, 0],  # a class of 25: the first of its two owners has one more
        [0, 12, 13, 0],
        [0, 0, 12, 13],
        [12, 0, 0, 12],
    ]


def test_pathological_first_deterministic_fixes_the_first_class() -> None:
    parts = partition(
        "pathological", SMALL, 4, seed=5, num_classes_per_partition=2, class_assignment_mode="first-deterministic"
    )
    for owner, row in enumerate(_histogram(parts, SMALL)):
        assert row[owner] > 0
        assert np.count_nonzero(row) == 2


def test_pathological_random_holds_the_asked_number_of_classes() -> None:
    parts = partition("pathological", BALANCED, 10, seed=0, num_classes_per_partition=3)
    assert [np.count_nonzero(row) for row in _histogram(parts, BALANCED)] == [3] * 10


def test_shards_of_one_class_each() -> None:
    parts = partition("shard", BALANCED, 10, seed=0, num_shards_per_partition=2)
    for row in _histogram(parts, BALANCED):
        assert sum(row) == 5000
        assert set(row) <= {0, 2500, 5000}


@pytest.mark.parametrize(
    ("params", "sizes"),
    [
        ({"num_shards_per_partition": 2}, [32, 32, 32]),  # 100 // 6 = 16 per shard
        ({"num_shards_per_partition": 2, "shard_size": 10}, [20, 20, 20]),
        ({"shard_size": 15}, [30, 30, 30]),  # 6 whole shards of 15
        ({"shard_size": 24}, [24, 24, 48]),  # 4 whole shards for 3 owners
        ({"shard_size": 40, "keep_incomplete_shard": True}, [20, 40, 40]),  # all 100 samples are dealt
    ],
)
def test_shard_sizes(params: dict[str, int], sizes: list[int]) -> None:
    assert sorted(len(part) for part in partition("shard", SMALL, 3, seed=0, **params)) == sizes


@pytest.mark.parametrize(
    ("law", "sizes"),
    [
        ("linear", [10, 20, 30, 40]),
        ("square", [4, 13, 30, 53]),  # 3.33, 13.33, 30, 53.33: among equal remainders the first owner gets the one
        ("exponential", [3, 9, 24, 64]),  # 3.21, 8.71, 23.69, 64.39
    ],
)
def test_quantity_sizes(law: str, sizes: list[int]) -> None:
    assert [len(part) for part in partition("quantity", SMALL, 4, seed=0, law=law)] == sizes


def test_quantity_dirichlet_keeps_the_least_size_and_the_class_law() -> None:
    parts = partition("quantity", BALANCED, 5, seed=0, law="dirichlet", alpha=0.5, min_partition_size=1000)
    report = partition_report(parts, BALANCED)
    assert (report.sizes.sum(), report.sizes.min() >= 1000) == (50_000, True)
    assert report.sizes.max() > 2 * report.sizes.min()
    assert report.tv_distance.max() < 0.05


def test_natural_owners_keep_their_samples() -> None:
    owner = np.array(["zoe", "al", "al", "zoe", "bo"])
    parts = partition("natural_id", np.zeros(5, int), 3, seed=0, natural_owner=owner)
    assert [part.tolist() for part in parts] == [[1, 2], [4], [0, 3]]


@pytest.mark.parametrize(
    ("alpha", "main", "other"),
    [(0.0, 800, 0), (0.1, 728, 8), (0.3, 584, 24), (1.0, 80, 80)],  # floor(800 alpha / 10), the rest to the main label
)
def test_main_label_counts(alpha: float, main: int, other: int) -> None:
    parts = partition("main_label", BALANCED, 10, seed=0, alpha=alpha)
    assert _histogram(parts, BALANCED) == [[main if c == owner else other for c in range(10)] for owner in range(10)]
    assert len(np.unique(np.concatenate(parts))) == 8000  # enough samples of every class: none is used twice


def test_main_label_gives_the_remainder_to_the_main_label() -> None:
    parts = partition("main_label", SMALL, 2, seed=0, alpha=0.5, samples_per_owner=30)  # floor(30 * 0.5 / 4) = 3
    assert _histogram(parts, SMALL) == [[21, 3, 3, 3], [3, 21, 3, 3]]


def test_main_label_owners_may_have_groups_of_labels_and_wrap_around() -> None:
    parts = partition("main_label", SMALL, 3, seed=0, alpha=0.4, samples_per_owner=22, num_main_labels=2)
    assert _histogram(parts, SMALL) == [[9, 9, 2, 2], [2, 2, 9, 9], [9, 9, 2, 2]]


def test_main_label_starts_a_class_again_only_when_it_is_exhausted() -> None:
    parts = partition("main_label", SMALL, 1, seed=0, alpha=0.0, samples_per_owner=60)
    assert sorted(np.bincount(parts[0], minlength=25)[:25].tolist()) == [2] * 15 + [3] * 10


def test_main_label_tests_each_owner_by_its_own_law() -> None:
    test_labels = np.repeat(np.arange(10), 1000)
    own = partition_test("main_label", test_labels, 10, seed=0, alpha=0.3)
    assert own is not None
    assert _histogram(own, test_labels) == [[365 if c == owner else 15 for c in range(10)] for owner in range(10)]
    small = partition_test("main_label", test_labels, 2, seed=0, alpha=1.0, test_samples_per_owner=20)
    assert small is not None
    assert _histogram(small, test_labels) == [[2] * 10] * 2


def test_other_partitions_share_the_whole_test_set() -> None:
    others = [name for name in partition_names() if name != "main_label"]
    assert [partition_test(name, SMALL, 2, seed=0) for name in others] == [None] * 7


def test_a_users_law_by_import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("user_law")
    module.stripes = lambda labels, num_owners, rng, *, start=0: [  # type: ignore[attr-defined]
        np.arange(start + owner, len(labels), num_owners) for owner in range(num_owners)
    ]
    module.greedy = lambda labels, num_owners, rng: [np.arange(3)] * num_owners  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "user_law", module)
    assert [p.tolist() for p in partition("user_law:stripes", SMALL[:7], 2, seed=0, start=1)] == [[1, 3, 5], [2, 4, 6]]
    with pytest.raises(ValueError, match="user_law:greedy gave 3 samples to more than one owner"):
        partition("user_law:greedy", SMALL, 2, seed=0)


def test_report_counts_shares_and_distances() -> None:
    labels = np.array([0, 0, 1, 1])
    report = partition_report([np.array([0, 1]), np.array([2]), np.array([1, 3])], labels)
    assert report.histogram.tolist() == [[2, 0], [0, 1], [1, 1]]
    assert report.sizes.tolist() == [2, 1, 2]
    assert report.top_class_share.tolist() == [1.0, 1.0, 0.5]
    assert report.tv_distance.tolist() == [0.5, 0.5, 0.0]


def test_file_round_trip_is_exact(tmp_path: Path) -> None:
    parts = partition("dirichlet", BALANCED, 10, seed=3, alpha=0.5)
    save_partition(tmp_path / "partition.parquet", parts)
    again = load_partition(tmp_path / "partition.parquet")
    assert [part.dtype for part in again] == [np.int64] * 10
    assert [part.tolist() for part in again] == [part.tolist() for part in parts]


def test_file_with_a_gap_between_owners_is_refused(tmp_path: Path) -> None:
    save_partition(tmp_path / "gap.parquet", [np.array([1]), np.array([], int), np.array([2])])
    with pytest.raises(ValueError, match=r"gap\.parquet: owner 1 has no sample"):
        load_partition(tmp_path / "gap.parquet")
