"""Who takes part in a round."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.random import Generator


def choose_cohort(owners: Sequence[str], size: int | None, rng: Generator) -> tuple[str, ...]:
    """``size`` owners drawn without replacement, in owner order; all of them when ``size`` is None."""
    if size is None or size >= len(owners):
        return tuple(owners)
    chosen = sorted(rng.choice(len(owners), size=size, replace=False).tolist())
    return tuple(owners[i] for i in chosen)
