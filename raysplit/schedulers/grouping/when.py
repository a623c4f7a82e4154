"""The decision when to split the merged task and into which groups, as a record that is logged with its scores.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285, split after a fixed number of rounds R0 by the mean affinity of the
rounds so far. `StableRanking` determines R0 itself: it splits once the order of the pairwise affinities (the mean over
all rounds so far) has been stable, by Spearman's rank correlation, through a window of rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from raysplit.schedulers.grouping.known import Measured, all_known, mean_known
from raysplit.schedulers.grouping.scores import Affinity, Grouping, at_most_x, exact_x, overlap

Mode = Literal["exact", "at-most", "overlap"]
SEARCHES: dict[Mode, Callable[[Affinity, int], Grouping]] = {"exact": exact_x, "at-most": at_most_x, "overlap": overlap}


@dataclass(frozen=True, kw_only=True)
class FixedRound:
    """The rule to split after `num_rounds` rounds."""

    num_rounds: int

    def __post_init__(self) -> None:
        if self.num_rounds < 1:
            raise ValueError(f"num_rounds must be at least 1 so that affinities exist, got {self.num_rounds}")


@dataclass(frozen=True, kw_only=True)
class StableRanking:
    """The rule to split once the mean affinity ranks the pairs of tasks as in each of the last `num_rounds` rounds."""

    num_rounds: int = 5
    min_correlation: float = 0.95

    def __post_init__(self) -> None:
        if self.num_rounds < 1:
            raise ValueError(f"num_rounds, the window to look back, must be at least 1, got {self.num_rounds}")
        if not -1 <= self.min_correlation <= 1:
            raise ValueError(f"min_correlation must be between -1 and 1, got {self.min_correlation}")


SplitRule = FixedRound | StableRanking


@dataclass(frozen=True, kw_only=True)
class SplitDecision:
    """The decision to split.

    Attributes:
        num_rounds: the number of rounds that are done.
        reason: why to split now.
        mode: how `chosen` was searched.
        chosen: the groups with which to continue.
        affinity: the mean affinity from which they follow.
        alternatives: the best grouping for every number of groups, for the log.
    """

    num_rounds: int
    reason: str
    mode: Mode
    chosen: Grouping
    affinity: Affinity
    alternatives: tuple[Grouping, ...]


def rank_correlation(first: Affinity, second: Affinity) -> float:
    """Compute Spearman's correlation of the off-diagonal entries; 1 if either has no order to compare.

    The ranks are SciPy's, but its `spearmanr` rounds differently: for equal orders it often returns less than 1, so
    that a `min_correlation` of 1 would never be reached.
    """
    a, b = _ranks(first), _ranks(second)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return 1.0 if scale == 0 else float(a @ b) / scale


def _ranks(affinity: Affinity) -> NDArray[np.float64]:
    """Rank the off-diagonal entries, with the mean rank for ties."""
    from scipy.stats import rankdata  # imported late, because it takes a second

    off_diagonal = ~np.eye(len(affinity.tasks), dtype=bool)
    ranks: NDArray[np.float64] = rankdata(np.array(affinity.values)[off_diagonal])
    return ranks


def reason_to_split(rule: SplitRule, history: Sequence[Measured], num_rounds: int) -> str | None:
    """Return why to split after `num_rounds` rounds with the mean affinities in `history`; None to stay merged."""
    if isinstance(rule, FixedRound):
        return f"round {rule.num_rounds} is done" if num_rounds >= rule.num_rounds else None
    if len(history) <= rule.num_rounds:
        return None
    counts = range(len(history) - rule.num_rounds, len(history) + 1)
    means = [mean_known(history[:count], history[0].tasks) for count in counts]
    so_far = [mean for mean in means if isinstance(mean, Affinity)]
    if len(so_far) < len(means):  # a ranking of some pairs says nothing of the others
        return None
    lowest = min(rank_correlation(earlier, so_far[-1]) for earlier in so_far[:-1])
    if lowest < rule.min_correlation:
        return None
    return f"the affinity ranking kept for {rule.num_rounds} rounds: correlation {lowest:.3f} >= {rule.min_correlation}"


def decide(
    rule: SplitRule,
    history: Sequence[Measured],
    *,
    num_groups: int,
    mode: Mode = "exact",
    num_rounds: int | None = None,
) -> SplitDecision | None:
    """Decide whether to split; None means to stay merged.

    Args:
        rule: when to split.
        history: the mean affinity of each round that was measured.
        num_groups: the number of groups, exactly or at most.
        mode: the search for the groups.
        num_rounds: the number of rounds that are done, if only the first of them were measured.
    """
    done = len(history) if num_rounds is None else num_rounds
    reason = reason_to_split(rule, history, done)
    if reason is None:
        return None
    affinity, search = all_known(history, history[0].tasks), SEARCHES[mode]
    return SplitDecision(
        num_rounds=done,
        reason=reason,
        mode=mode,
        chosen=search(affinity, num_groups),
        affinity=affinity,
        alternatives=tuple(search(affinity, number) for number in range(1, len(affinity.tasks) + 1)),
    )
