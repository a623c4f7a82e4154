"""The test samples of each owner: those that name it, or a share that follows the classes of its training samples.

Where the data name the owner of each test sample, an owner's tests are its own. A partition by label decides by class
and chance alone which owner holds a sample, so the test samples of a class are divided among the owners in proportion
to their training samples of that class: then every owner is tested on the classes that it trains on, in about the same
proportions, and no test sample has two owners. Partitions that do not look at labels (``iid``, ``quantity``) leave all
owners the same classes; there everybody's test samples are each owner's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from raysplit.data.partition.by_label import Indices, Labels
from raysplit.seeding import generator

logger = logging.getLogger(__name__)

ALIKE = ("iid", "quantity")
"""Partitions whose owners all have the same class law."""


def own_tests(
    name: str,
    parts: Sequence[Indices],
    labels: Labels,
    test_labels: Labels,
    *,
    seed: int,
    natural_owner: npt.NDArray[Any] | None = None,
    test_owner: npt.NDArray[Any] | None = None,
) -> list[Indices] | None:
    """Return the indices of the test samples of each owner; None where all samples are each owner's, or nobody knows.

    ``main_label`` draws its tests itself (`raysplit.data.partition.laws.partition_test`).

    Args:
        name: name or import path of the partition.
        parts: the indices of the training samples of each owner.
        labels: class of each training sample, or zeros where samples have none.
        test_labels: class of each test sample.
        seed: seed of the division by class.
        natural_owner: id of the owner of each training sample, for ``natural_id``.
        test_owner: id of the owner of each test sample, for ``natural_id``.
    """
    if name == "natural_id":
        if natural_owner is None or test_owner is None:
            return None
        tests = named_tests(np.unique(natural_owner), test_owner)
        if any(len(indices) for indices in tests):
            return tests
        logger.warning("no test sample has an owner with training samples: all models are tested on all test samples")
        return None
    if name in ALIKE or len(np.unique(labels)) < 2:
        return None
    return divided_tests(parts, labels, test_labels, seed=seed)


def named_tests(owners: Iterable[Any], test_owner: npt.NDArray[Any]) -> list[Indices]:
    """Return the indices of the test samples of each owner.

    Args:
        owners: the id of each owner, in owner order.
        test_owner: the id of the owner of each test sample; a sample with another id is nobody's.
    """
    return [np.flatnonzero(test_owner == owner) for owner in owners]


def divided_tests(parts: Sequence[Indices], labels: Labels, test_labels: Labels, *, seed: int) -> list[Indices]:
    """Divide the test samples by the owners' class laws.

    Of the M test samples of a class, an owner with h of its H training samples gets M h / H, rounded down or up: the
    samples that rounding down leaves go to the owners that it has cost most, over all classes so far. Test samples of a
    class that no owner holds stay unused, and an owner with few training samples may get none.

    Args:
        parts: the indices of the training samples of each owner.
        labels: class of each training sample.
        test_labels: class of each test sample.
        seed: seed of the order in which the test samples of a class are given away.

    Returns:
        A sorted array of indices into ``test_labels`` for each owner.
    """
    num_classes = int(max(labels.max(), test_labels.max())) + 1
    held = np.stack([np.bincount(labels[part], minlength=num_classes) for part in parts])  # [N, C]
    rng = generator(seed, "partition", "own tests")
    owed = np.zeros(len(parts))
    given: list[list[Indices]] = [[] for _ in parts]
    for label in range(num_classes):
        members = rng.permutation(np.flatnonzero(test_labels == label))
        holders = np.flatnonzero(held[:, label])
        if not len(holders):
            continue
        counts, rest = np.divmod(held[holders, label] * len(members), held[holders, label].sum())
        owed[holders] += rest / held[holders, label].sum()
        rounded = holders[rest > 0]
        first = rounded[np.argsort(np.round(-owed[rounded], 9), kind="stable")[: len(members) - counts.sum()]]
        counts[np.isin(holders, first)] += 1
        owed[first] -= 1
        for owner, piece in zip(holders, np.split(members, np.cumsum(counts)[:-1]), strict=True):
            given[owner].append(piece)
    return [np.sort(np.concatenate([np.array([], np.int64), *pieces])) for pieces in given]
