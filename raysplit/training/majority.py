"""Control for an accuracy of owners: the accuracy of guessing the majority label.

For tasks with few labels (Zheng, Eryilmaz, 2024, arXiv 2406.00150) a high accuracy proves little by itself, because an
owner with one label is always right.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from raysplit.algorithms.setting import OwnerData
from raysplit.data.samples import Samples


def majority_accuracies(owners: Mapping[str, OwnerData]) -> dict[str, float]:
    """Return the accuracy, on its own test samples, of always guessing an owner's most frequent training label.

    Owners without test samples of their own, with samples that do not have a single class label, or whose training
    samples only they read, have none.
    """
    shares = {}
    for name, data in owners.items():
        if data.test is None or not isinstance(data.shard, Samples):
            continue
        y, test_y = data.shard.y, data.test.y
        if isinstance(y, Tensor) and isinstance(test_y, Tensor):
            shares[name] = float((test_y == y.mode().values).double().mean())
    return shares


def majority_row(shares: Mapping[str, float], tested: Collection[str]) -> dict[str, float]:
    """Return the column for a round: the mean over the owners that were tested on their own samples."""
    found = [share for name, share in shares.items() if name in tested]
    return {"majority_accuracy": sum(found) / len(found)} if found else {}
