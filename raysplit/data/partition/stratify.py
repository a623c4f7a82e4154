"""Hold out the same share of every class as a test set, for data that come without one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from raysplit.seeding import generator

Indices = npt.NDArray[np.int64]

TEST_FRACTION = 0.2


def stratified_split(labels: npt.ArrayLike, seed: int = 0) -> tuple[Indices, Indices]:
    """Sorted indices (train, test): a fifth of every class, rounded, is drawn for the test set.

    scikit-learn's ``train_test_split`` has other random streams: with it, every seed would choose other samples.

    Raises ``ValueError`` when one side would be empty.
    """
    classes = np.asarray(labels)
    draw = generator(seed, "stratified-split")
    test: list[Indices] = []
    for label in np.unique(classes):
        members = draw.permutation(np.flatnonzero(classes == label))
        test.append(members[: round(TEST_FRACTION * len(members))])
    held_out = np.sort(np.concatenate(test)) if test else np.array([], np.int64)
    rest = np.setdiff1d(np.arange(len(classes)), held_out)
    if not len(held_out) or not len(rest):
        raise ValueError(
            f"{len(classes)} samples are too few to hold out a fifth of every class as the test set; "
            f"add samples (3 or more of a class) or mark them train and test yourself"
        )
    return rest, held_out
