"""Prepare owners that read their own shard files (``data.name: shards``; see `raysplit.data.sources.shards`)."""

from __future__ import annotations

from typing import cast

import numpy as np

from raysplit.config.run import RunConfig
from raysplit.data.samples import Samples
from raysplit.data.sources.shards import ShardSet, open_shards


def streamed_owners(config: RunConfig) -> tuple[ShardSet, list[Samples], list[np.ndarray]]:
    """Return the opened data, the shard of every owner, and the indices of its samples.

    Raises:
        ValueError: a setting needs all samples in one process, or the partition does not match the files.
    """
    section, split = config.data, config.partition
    if section.root is None:
        raise ValueError("data.name is shards and data.root is missing; set it to the folder or URI with train/")
    for setting, value in (
        ("data.train_samples", section.train_samples),
        ("data.test_samples", section.test_samples),
        ("owners.label_noise", config.owners.label_noise),
    ):
        if value:
            raise ValueError(
                f"{setting} is {value}, which does not apply to owners that read their own files; leave it out"
            )
    found = open_shards(section.root, **section.options)
    if split.name != "natural_id" or split.num_owners != len(found.shards):
        raise ValueError(
            f"{section.root}/train has {len(found.shards)} files, one for each owner, and the partition is "
            f"{split.name} over {split.num_owners} owners; set partition.name=natural_id and "
            f"partition.num_owners={len(found.shards)}"
        )
    ends = np.cumsum([len(shard) for shard in found.shards])
    parts = [np.arange(end - len(shard), end) for end, shard in zip(ends, found.shards, strict=True)]
    shards = [cast(Samples, shard) for shard in found.shards]  # has the methods of Samples that owners call
    return found, shards, parts
