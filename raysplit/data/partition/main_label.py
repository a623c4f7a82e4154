"""Partition ``main_label``: one main class, or a few, for each owner, and tests of the same class law.

``main_label`` is the class law q_m(c) = (1 - alpha) [c = m] + alpha / C of multi-task split learning. The classes are
those of the whole data set, so that owner m has the same main class in training and in its tests.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raysplit.data.partition.by_label import Indices, Labels, positive, unit_fraction

TEST_SAMPLES_PER_OWNER = 500
_MOST_DEALT = 100_000_000  # samples that owners may share


def main_label(
    labels: Labels,
    num_owners: int,
    rng: np.random.Generator,
    *,
    alpha: float,
    samples_per_owner: int = 800,
    test_samples_per_owner: int = TEST_SAMPLES_PER_OWNER,
    num_main_labels: int = 1,
    num_classes: int | None = None,
) -> list[Indices]:
    """Give owner m floor(n alpha / C) samples of each of the C classes, and the rest of its n from class m mod C.

    Args:
        labels: class of each sample [N].
        num_owners: number of owners.
        rng: generator of the order in which the samples of a class are given away.
        alpha: share from 0 to 1 of the samples that are spread over all classes.
        samples_per_owner: number n of samples per owner.
        test_samples_per_owner: number n in ``partition_test``.
        num_main_labels: number g of main classes per owner, which are m g, m g + 1, ... (mod C). The rest is divided
            equally among them; what remains goes to the first of them.
        num_classes: number C of classes, of all sides of the data; by default the largest of ``labels`` plus one.

    Samples of a class are given away without replacement, in the order of the owners, and again from the first one
    when all are gone; owners share samples in this partition alone. Raises ``ValueError`` for parameters out of range
    and for a class without samples.
    """
    positive("main_label", test_samples_per_owner=test_samples_per_owner)
    num_classes = num_classes or int(labels.max()) + 1
    if missing := _missing(labels, num_classes):
        raise ValueError(
            f"main_label: no sample has label {missing[0]} of 0..{num_classes - 1}, the labels of both sides; "
            f"renumber the labels"
        )
    counts = _main_label_counts(num_owners, num_classes, alpha, samples_per_owner, num_main_labels)
    return _dealt(labels, counts, rng)


def main_label_tests(
    labels: Labels,
    num_owners: int,
    rng: np.random.Generator,
    *,
    alpha: float,
    samples_per_owner: int = 800,
    test_samples_per_owner: int = TEST_SAMPLES_PER_OWNER,
    num_main_labels: int = 1,
    num_classes: int | None = None,
) -> list[Indices]:
    """Give owner m test samples by the class law of `main_label`, with ``test_samples_per_owner`` for n.

    A class without test samples is left out, and an owner with such a main class has no tests: without that class they
    would be those of another task.
    """
    positive("main_label", samples_per_owner=samples_per_owner)
    num_classes = num_classes or int(labels.max()) + 1
    counts = _main_label_counts(num_owners, num_classes, alpha, test_samples_per_owner, num_main_labels)
    missing = _missing(labels, num_classes)
    for owner, of_owner in enumerate(counts):
        mains = {(owner * num_main_labels + i) % num_classes for i in range(num_main_labels)}
        of_owner[:] = 0 if mains & set(missing) else of_owner
        of_owner[missing] = 0
    return _dealt(labels, counts, rng)


def _missing(labels: Labels, num_classes: int) -> list[int]:
    return np.flatnonzero(np.bincount(labels, minlength=num_classes) == 0).tolist()


def _main_label_counts(
    num_owners: int, num_classes: int, alpha: float, num_samples: int, num_main_labels: int
) -> npt.NDArray[np.int64]:
    """Return the number of samples of each class [N, C] that each owner gets."""
    share = unit_fraction("main_label", "alpha", alpha)
    positive("main_label", samples_per_owner=num_samples)
    if not 1 <= num_main_labels <= num_classes:
        raise ValueError(
            f"main_label: num_main_labels is {num_main_labels} and the data have {num_classes} classes; "
            f"give 1 to {num_classes}"
        )
    if num_owners * num_samples > _MOST_DEALT:
        raise ValueError(
            f"main_label: {num_owners:,} owners get {num_samples:,} samples each, and in all there can be at most "
            f"{_MOST_DEALT:,}; give fewer samples_per_owner"
        )
    elsewhere = num_samples * share.numerator // (share.denominator * num_classes)
    rest = num_samples - elsewhere * (num_classes - num_main_labels)
    each, first_extra = divmod(rest, num_main_labels)
    counts = np.full((num_owners, num_classes), elsewhere)
    for owner in range(num_owners):
        for i in range(num_main_labels):
            counts[owner, (owner * num_main_labels + i) % num_classes] = each + (first_extra if i == 0 else 0)
    return counts


def _dealt(labels: Labels, counts: npt.NDArray[np.int64], rng: np.random.Generator) -> list[Indices]:
    """Give away ``counts`` [N, C] samples in owner order, each class again from its first when all are gone."""
    pools = [rng.permutation(np.flatnonzero(labels == label)) for label in range(counts.shape[1])]
    starts = np.cumsum(counts, axis=0) - counts
    return [
        np.concatenate(
            [
                np.take(pool, np.arange(start, start + count), mode="wrap") if count else pool[:0]
                for pool, start, count in zip(pools, starts[owner], counts[owner], strict=True)
            ]
        )
        for owner in range(len(counts))
    ]
