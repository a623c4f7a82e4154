"""Samples that every owner sets aside from its training samples, to choose rates and rounds on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raysplit.data.partition.by_label import Indices
from raysplit.seeding import generator


def set_aside(parts: Sequence[Indices], share: float, seed: int) -> tuple[list[Indices], list[Indices]]:
    """Divide the samples of every owner into those that it trains on and those that it sets aside.

    The number set aside is rounded, and at least 1. An owner with a single sample sets none aside.

    Args:
        parts: the indices of each owner's samples.
        share: the share to set aside; 0 sets nothing aside and leaves the parts as they are.
        seed: the seed of the run.

    Returns:
        The indices of the training samples and of the others, by owner, each in the order of ``parts``.
    """
    if not share:
        return list(parts), [part[:0] for part in parts]
    kept, aside = [], []
    for number, part in enumerate(parts):
        count = min(max(1, round(share * len(part))), len(part) - 1)
        chosen = np.zeros(len(part), bool)
        chosen[generator(seed, "validation", number).permutation(len(part))[: max(0, count)]] = True
        kept.append(part[~chosen])
        aside.append(part[chosen])
    return kept, aside
