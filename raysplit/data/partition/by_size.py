"""Partitions that do not look at labels: equal shares, skewed sizes, and the owners named in the data.

Parameter names are those of flwr-datasets (its linear, square and exponential partitioners are laws of ``quantity``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from raysplit.data.partition.by_label import MAX_ATTEMPTS, Indices, Labels, positive
from raysplit.registry import number_of

SIZE_LAWS = ("linear", "square", "exponential", "dirichlet")


def iid(labels: Labels, num_owners: int, rng: np.random.Generator) -> list[Indices]:
    """Shuffle all samples and deal them out; sizes differ by one at most."""
    return np.array_split(rng.permutation(len(labels)), num_owners)


def quantity(
    labels: Labels,
    num_owners: int,
    rng: np.random.Generator,
    *,
    law: str = "linear",
    alpha: float = 1.0,
    min_partition_size: int = 1,
) -> list[Indices]:
    """Shuffle all samples and deal them out in shares of different sizes.

    Args:
        labels: class of each sample [N]; only their number matters.
        num_owners: number of owners.
        rng: generator of the draws.
        law: share of owner n, in proportion to n+1 (``linear``), (n+1)^2 (``square``) or e^n (``exponential``), or
            drawn from Dirichlet(``alpha``) (``dirichlet``).
        alpha: concentration of the law ``dirichlet``.
        min_partition_size: least number of samples per owner; ``dirichlet`` is drawn up to ten times until it holds.

    Raises:
        ValueError: for an unknown law, and when an owner gets fewer than ``min_partition_size`` samples.
    """
    if law not in SIZE_LAWS:
        raise ValueError(f"quantity: law is {law!r}; give one of {', '.join(SIZE_LAWS)}")
    positive("quantity", alpha=alpha, min_partition_size=min_partition_size)
    rank = np.arange(num_owners)
    for _ in range(MAX_ATTEMPTS if law == "dirichlet" else 1):
        match law:
            case "linear":
                share = rank + 1.0
            case "square":
                share = (rank + 1.0) ** 2
            case "exponential":
                share = np.exp(rank - num_owners + 1.0)
            case _:
                share = rng.dirichlet(np.full(num_owners, alpha))
        sizes = _whole_sizes(share, len(labels))
        if sizes.min() >= min_partition_size:
            return np.split(rng.permutation(len(labels)), np.cumsum(sizes)[:-1])
    raise ValueError(
        f"quantity with law {law}: owner {sizes.argmin()} gets {sizes.min()} of {len(labels)} samples and "
        f"min_partition_size is {min_partition_size}; take fewer owners than {num_owners}, more data or a milder law"
    )


def natural_id(
    labels: Labels, num_owners: int, rng: np.random.Generator, *, natural_owner: npt.NDArray[Any] | None
) -> list[Indices]:
    """Give each sample to the owner that the data name, with the owners in the order of their sorted ids.

    Raises ``ValueError`` when the data name no owners, or another number of owners than ``num_owners``.
    """
    if natural_owner is None:
        raise ValueError('natural_id: these data name no owners; use an .npz or Parquet file with "owner" per sample')
    if len(natural_owner) != len(labels):
        raise ValueError(
            f"natural_id: {len(natural_owner)} owner ids for {len(labels)} samples; give one id per sample"
        )
    ids, owner_of = np.unique(natural_owner, return_inverse=True)
    if len(ids) != num_owners:
        raise ValueError(
            f"natural_id: the data name {number_of(len(ids), 'owner')} and num_owners is {num_owners}; set it to "
            f"{len(ids)}"
        )
    return [np.flatnonzero(owner_of == owner) for owner in range(num_owners)]


def _whole_sizes(share: npt.NDArray[np.floating[Any]], total: int) -> npt.NDArray[np.int64]:
    """Round shares to whole numbers that sum to ``total`` by the method of the largest remainder."""
    exact = share / share.sum() * total
    sizes: Indices = np.floor(exact).astype(np.int64)
    largest_remainder = np.argsort(np.round(sizes - exact, 9), kind="stable")  # rounded, so that equal ones tie
    sizes[largest_remainder[: total - sizes.sum()]] += 1
    return sizes
