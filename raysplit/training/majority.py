"""Baselines for an accuracy: the accuracy of guessing the majority label, and the cost of reaching a target.

For tasks with few labels (Zheng, Eryilmaz, 2024, arXiv 2406.00150) a high accuracy proves little by itself, because an
owner with one label is always right. Speed is measured in steps and bytes to a target, because a "round" of one
algorithm may be many steps of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from raysplit.algorithms.setting import OwnerData


def majority_accuracy(owners: Mapping[str, OwnerData]) -> float | None:
    """Return the mean test accuracy of always guessing an owner's most frequent training label.

    The mean is over the owners with test samples of their own. It is None where there are none, or where samples do not
    have a single class label.
    """
    shares = []
    for data in owners.values():
        if data.test is None:
            continue
        y = data.shard.y
        if isinstance(y, Tensor) and isinstance(data.test.y, Tensor):
            shares.append(float((data.test.y == y.mode().values).double().mean()))
    return sum(shares) / len(shares) if shares else None


def to_targets(rows: Sequence[Mapping[str, Any]], targets: Sequence[float]) -> dict[str, dict[str, int | None]]:
    """Return ``steps_to_target`` and ``bytes_to_target`` by target; None for a target that was not reached."""
    found: dict[str, dict[str, int | None]] = {"steps_to_target": {}, "bytes_to_target": {}}
    for target in targets:
        row = next((row for row in rows if row.get("test_accuracy", 0.0) >= target), None)
        found["steps_to_target"][f"{target:g}"] = row["steps_total"] if row else None
        found["bytes_to_target"][f"{target:g}"] = row["bytes_total"] if row else None
    return found
