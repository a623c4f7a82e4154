"""Report on how uneven a partition is, and its Parquet file.

The total variation distance of owner n is half the sum over classes of |q_n(c) - q(c)|, where q_n is the class
distribution of its samples and q that of all labels. It is 0 for the distribution of all labels, and 0.9 for a single
class out of ten equally frequent ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from raysplit.data.failures import reading
from raysplit.data.partition.by_label import Indices


@dataclass(frozen=True, kw_only=True, eq=False)
class PartitionReport:
    """Sizes and class distributions of the parts of N owners.

    Attributes:
        sizes: number of samples [N].
        histogram: number of samples of each class [N, C].
        top_class_share: share of the most frequent class [N], 0 to 1.
        tv_distance: total variation distance to all labels [N], 0 to 1.
    """

    sizes: Indices
    histogram: Indices
    top_class_share: npt.NDArray[np.float64]
    tv_distance: npt.NDArray[np.float64]


def partition_report(parts: Sequence[Indices], labels: npt.NDArray[Any]) -> PartitionReport:
    """Report on ``parts`` of the samples with these ``labels`` [number of samples], integers from 0."""
    num_classes = int(labels.max()) + 1
    histogram = np.stack([np.bincount(labels[part], minlength=num_classes) for part in parts])
    sizes = histogram.sum(axis=1)
    law = histogram / sizes[:, None]
    overall = np.bincount(labels, minlength=num_classes) / len(labels)
    return PartitionReport(
        sizes=sizes,
        histogram=histogram,
        top_class_share=law.max(axis=1),
        tv_distance=np.abs(law - overall).sum(axis=1) / 2,
    )


def save_partition(path: str | Path, parts: Sequence[Indices]) -> None:
    """Write ``parts`` as Parquet with one row per sample: ``owner`` (int32) and ``index`` (int64)."""
    owner = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
    pq.write_table(
        pa.table({"owner": owner, "index": np.concatenate(parts).astype(np.int64)}), path, write_page_checksum=True
    )


def load_partition(path: str | Path) -> list[Indices]:
    """Read the parts that ``save_partition`` wrote, in the same order.

    Raises ``ValueError`` if an owner has no rows.
    """
    with reading(Path(path), "write it again with save_partition"):
        table = pq.read_table(path, columns=["owner", "index"], page_checksum_verification=True)
    owner, index = table["owner"].to_numpy(), table["index"].to_numpy()
    sizes = np.bincount(owner)
    if not sizes.all():
        raise ValueError(f"{path}: owner {int(sizes.argmin())} has no sample; save a partition with one part per owner")
    return np.split(index[np.argsort(owner, kind="stable")].astype(np.int64), np.cumsum(sizes)[:-1])
