"""Numbers to read an accuracy by: what guessing the commonest label gives, and what a target took.

With tasks of few labels (Zheng, Eryilmaz, 2024, arXiv 2406.00150) a high accuracy proves little by itself: an owner
with one label is always right. Steps and bytes to a target are the two measures of speed, because a "round" of one
method may be many steps of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from raysplit.algorithms.setting import OwnerData


def majority_accuracy(owners: Mapping[str, OwnerData]) -> float | None:
    """Mean, over the owners with test samples of their own, of the share of the owner's commonest training label.

    None where nobody has such samples, or where there is no single class label per sample.
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
    """``steps_to_target`` and ``bytes_to_target``, by target: at the first evaluation that reached it, None if none."""
    found: dict[str, dict[str, int | None]] = {"steps_to_target": {}, "bytes_to_target": {}}
    for target in targets:
        row = next((row for row in rows if row.get("test_accuracy", 0.0) >= target), None)
        found["steps_to_target"][f"{target:g}"] = row["steps_total"] if row else None
        found["bytes_to_target"][f"{target:g}"] = row["bytes_total"] if row else None
    return found
