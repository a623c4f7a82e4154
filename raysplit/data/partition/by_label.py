"""Partitions by label: Dirichlet, classes per owner, shards and the non-IID ratio; `main_label` has the fifth.

``dirichlet``, ``pathological`` and ``shard`` take the parameters of flwr-datasets. ``noniid_ratio`` is the ratio r of
MiniBatch-SFL (Huang, Tian, Tang 2023, arXiv 2308.11953). Shares are exact rational numbers, so 0.9 of 5,000 samples is
4,500, where a rounding error could give 4,499.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64]

MAX_ATTEMPTS = 10
ASSIGNMENT_MODES = ("random", "deterministic", "first-deterministic")


def dirichlet(
    labels: Labels,
    num_owners: int,
    rng: np.random.Generator,
    *,
    alpha: float | Sequence[float],
    min_partition_size: int = 10,
    self_balancing: bool = False,
) -> list[Indices]:
    """Divide each class among the owners in shares drawn from Dirichlet(``alpha``); all samples are used.

    Args:
        labels: class of each sample [N].
        num_owners: number of owners.
        rng: generator of the draws.
        alpha: concentration, one number or one per owner; the smaller it is, the more the owners differ.
        min_partition_size: least number of samples per owner; the partition is drawn again until it holds.
        self_balancing: give no further samples to owners that have reached the mean size.

    Raises:
        ValueError: for parameters out of range, and when ten draws leave an owner below ``min_partition_size``.
    """
    concentration = np.broadcast_to(np.asarray(alpha, np.float64), (num_owners,)) if np.ndim(alpha) == 0 else alpha
    concentration = np.asarray(concentration, np.float64)
    if concentration.shape != (num_owners,) or not 0 < concentration.min() <= concentration.max() <= 1e100:
        raise ValueError(
            f"dirichlet: alpha is {alpha}; give one number above 0, or one for each of the {num_owners} owners"
        )
    if min_partition_size < 0 or min_partition_size * num_owners > len(labels):
        raise ValueError(
            f"dirichlet: min_partition_size is {min_partition_size} and {num_owners} owners share {len(labels)} "
            f"samples; give 0 to {len(labels) // num_owners}"
        )
    for _ in range(MAX_ATTEMPTS):
        parts = _dirichlet_draw(labels, concentration, rng, self_balancing)
        sizes = [len(part) for part in parts]
        if min(sizes) >= min_partition_size:
            return parts
    raise ValueError(
        f"dirichlet: owner {int(np.argmin(sizes))} has {min(sizes)} samples with alpha {alpha} after {MAX_ATTEMPTS} "
        f"draws, below min_partition_size {min_partition_size}; raise alpha, lower min_partition_size or take fewer "
        f"owners than {num_owners}"
    )


def _dirichlet_draw(
    labels: Labels, alpha: npt.NDArray[np.float64], rng: np.random.Generator, self_balancing: bool
) -> list[Indices]:
    parts: list[list[Indices]] = [[] for _ in alpha]
    sizes = np.zeros(len(alpha), np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        share = rng.dirichlet(alpha)
        if self_balancing:
            has_room = sizes < len(labels) / len(alpha)
            share = share * has_room if (share * has_room).sum() > 0 else has_room.astype(np.float64)
        ends = np.floor(np.cumsum(share / share.sum())[:-1] * len(members)).astype(np.int64)
        for owner, piece in enumerate(np.split(members, ends)):
            parts[owner].append(piece)
            sizes[owner] += len(piece)
    return [np.concatenate(pieces) for pieces in parts]


def pathological(
    labels: Labels,
    num_owners: int,
    rng: np.random.Generator,
    *,
    num_classes_per_partition: int,
    class_assignment_mode: str = "random",
) -> list[Indices]:
    """Give each owner samples of a few classes, and divide each class evenly among the owners that have it.

    Args:
        labels: class of each sample [N].
        num_owners: number of owners.
        rng: generator of the draws.
        num_classes_per_partition: number of classes per owner.
        class_assignment_mode: ``random`` draws the classes of an owner, ``deterministic`` gives owner n the classes n,
            n+1, ..., and ``first-deterministic`` gives it class n and draws the others.

    Samples of a class that no owner has stay unused. Raises ``ValueError`` for parameters out of range.
    """
    classes = np.unique(labels)
    positive("pathological", num_classes_per_partition=num_classes_per_partition)
    if num_classes_per_partition > len(classes):
        raise ValueError(
            f"pathological: num_classes_per_partition is {num_classes_per_partition} and the data have {len(classes)} "
            f"classes; give 1 to {len(classes)}"
        )
    if class_assignment_mode not in ASSIGNMENT_MODES:
        raise ValueError(
            f"pathological: class_assignment_mode is {class_assignment_mode!r}; "
            f"give one of {', '.join(ASSIGNMENT_MODES)}"
        )
    held: list[list[int]] = []
    for owner in range(num_owners):
        in_turn = (owner + np.arange(len(classes))) % len(classes)
        match class_assignment_mode:
            case "deterministic":
                order = in_turn
            case "first-deterministic":
                order = np.concatenate([in_turn[:1], rng.permutation(in_turn[1:])])
            case _:
                order = rng.permutation(len(classes))
        held.append(order[:num_classes_per_partition].tolist())
    parts: list[list[Indices]] = [[] for _ in held]
    for position, label in enumerate(classes):
        holders = [owner for owner, positions in enumerate(held) if position in positions]
        members = rng.permutation(np.flatnonzero(labels == label))
        for owner, piece in zip(holders, np.array_split(members, max(len(holders), 1)), strict=False):
            parts[owner].append(piece)
    return [np.concatenate(pieces) for pieces in parts]


def shard(
    labels: Labels,
    num_owners: int,
    rng: np.random.Generator,
    *,
    num_shards_per_partition: int | None = None,
    shard_size: int | None = None,
    keep_incomplete_shard: bool = False,
) -> list[Indices]:
    """Sort the samples by label, cut them into shards of equal size and deal the shards out at random.

    Args:
        labels: class of each sample [N].
        num_owners: number of owners.
        rng: generator of the draws.
        num_shards_per_partition: number of shards per owner; without it all shards are dealt out.
        shard_size: samples per shard; without it shards are as large as the data allow.
        keep_incomplete_shard: count the samples after the last whole shard as one more shard.

    Samples of shards that no owner gets stay unused. Raises ``ValueError`` without both numbers, for numbers below 1
    and when there are too few shards.
    """
    if num_shards_per_partition is None and shard_size is None:
        raise ValueError("shard: give num_shards_per_partition, shard_size or both")
    positive("shard", num_shards_per_partition=num_shards_per_partition, shard_size=shard_size)
    num_wanted = num_owners * (num_shards_per_partition or 1)
    size = shard_size or len(labels) // num_wanted
    num_whole, left_over = divmod(len(labels), max(size, 1))
    num_shards = num_whole + (1 if keep_incomplete_shard and left_over else 0)
    if size == 0 or num_wanted > num_shards:
        raise ValueError(
            f"shard: {num_owners} owners need {num_wanted} shards and {len(labels)} samples give {num_shards} of size "
            f"{max(size, 1)}; lower num_shards_per_partition or shard_size, or take fewer owners"
        )
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    order = rng.permutation(num_shards)[: num_shards if num_shards_per_partition is None else num_wanted]
    return [
        np.concatenate([by_label[i * size : (i + 1) * size] for i in order[owner::num_owners]])
        for owner in range(num_owners)
    ]


def noniid_ratio(labels: Labels, num_owners: int, rng: np.random.Generator, *, ratio: float) -> list[Indices]:
    """Take a fraction ``ratio`` of each owner's samples from the samples sorted by label, and draw the others.

    Every owner has floor(N / num_owners) samples. The sorted samples are cut into one shard per owner, in the order of
    the owners. The remaining samples, fewer than there are owners, stay unused. Raises ``ValueError`` for a ratio
    outside 0..1.
    """
    share = unit_fraction("noniid_ratio", "ratio", ratio)
    size = len(labels) // num_owners
    num_sorted = size * share.numerator // share.denominator
    shuffled = rng.permutation(len(labels))[: size * num_owners]
    at_random, rest = np.split(shuffled, [(size - num_sorted) * num_owners])
    by_label = rest[np.argsort(labels[rest], kind="stable")]
    pieces = zip(np.split(at_random, num_owners), np.split(by_label, num_owners), strict=True)
    return [np.concatenate(both) for both in pieces]


def positive(law: str, **values: float | None) -> None:
    """Raise ``ValueError``, which names the ``law``, when a given parameter is not above 0."""
    for name, value in values.items():
        if value is not None and value <= 0:
            raise ValueError(f"{law}: {name} is {value}; it must be above 0")


def unit_fraction(law: str, name: str, value: float) -> Fraction:
    """Return a share from 0 to 1 as an exact number. Raises ``ValueError``, which names the ``law``, for another."""
    if not 0 <= value <= 1:
        raise ValueError(f"{law}: {name} is {value}; give a share from 0 to 1")
    return Fraction(str(value))
