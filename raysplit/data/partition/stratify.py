"""A stratified split into training and test samples, for data that have no test set."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raysplit.seeding import generator

Indices = npt.NDArray[np.int64]

TEST_FRACTION = 0.2


def stratified_split(
    labels: npt.ArrayLike, seed: int = 0, *, fraction: float = TEST_FRACTION
) -> tuple[Indices, Indices]:
    """Draw a fraction of every class, rounded, for the test set; return sorted indices (train, test).

    Raises ``ValueError`` when one side would be empty.
    """
    # Not scikit-learn's train_test_split: its random streams differ, so every seed would choose other samples.
    classes = np.asarray(labels)
    draw = generator(seed, "stratified-split")
    test: list[Indices] = []
    for label in np.unique(classes):
        members = draw.permutation(np.flatnonzero(classes == label))
        test.append(members[: round(fraction * len(members))])
    held_out = np.sort(np.concatenate(test)) if test else np.array([], np.int64)
    rest = np.setdiff1d(np.arange(len(classes)), held_out)
    if not len(held_out) or not len(rest):
        raise ValueError(
            f"{len(classes)} samples are too few to hold out {share_named(fraction)} of every class as the test set; "
            f"add samples (3 or more of a class) or mark each one as train or test yourself"
        )
    return rest, held_out


def share_named(fraction: float) -> str:
    """Return a share in words."""
    return "a fifth" if fraction == TEST_FRACTION else f"{fraction:.3g}"
