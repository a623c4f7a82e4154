"""The rules that refuse owners' updates, and the averages that combine the others, robust ones among them.

* coordinate-wise median and trimmed mean: Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning:
  Towards Optimal Statistical Rates" (2018, arXiv 1803.01498), definitions 1 and 2. They weight all owners equally.
* Krum: Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries: Byzantine Tolerant Gradient
  Descent" (2017, arXiv 1703.02757), section 4: of n updates, f of them wrong, the one whose n - f - 2 nearest others
  are nearest; it needs n >= 2 f + 3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from raysplit.cluster.arriving.forms import not_finite
from raysplit.cluster.sums.tree import Node, State, weighted_sum
from raysplit.schedulers.rules import Rules


class UpdateRefused(ValueError):
    """Raised for an owner's update that training cannot have produced; the message names owner, round and reason."""

    def __init__(self, owner: str, round: int, reason: str) -> None:
        super().__init__(f"the update of {owner} in round {round + 1} is refused: {reason}")
        self.owner, self.round, self.reason = owner, round, reason

    def __reduce__(self) -> tuple[type[UpdateRefused], tuple[str, int, str]]:
        return type(self), (self.owner, self.round, self.reason)


class UpdateRules(Rules):
    """Rules that refuse owners' updates, and combine the others to one."""

    max_update_norm: float | None = Field(default=None, gt=0)
    """Largest accepted distance of an update from the previous average (Euclidean norm over all weights); None sets no
    limit."""
    aggregation: Literal["mean", "median", "trimmed_mean", "krum"] = "mean"
    """Combination of the updates: the weighted ``mean``, or one that is robust to wrong updates: ``median``,
    ``trimmed_mean``, ``krum``."""
    tolerated: int = Field(default=1, ge=0)
    """Number of wrong updates that ``trimmed_mean`` (at either end) and ``krum`` tolerate."""

    @property
    def judge_whole_models(self) -> bool:
        """Whether the rules compare whole models, so that all parts of an owner's model must be judged together."""
        return self.aggregation == "krum" or self.max_update_norm is not None

    @property
    def adds_up(self) -> bool:
        """Whether the updates are only summed, so that sums of several may take their place."""
        return self.aggregation == "mean" and self.max_update_norm is None

    @property
    def num_needed(self) -> int:
        """The smallest number of updates that the rules can combine."""
        return {"trimmed_mean": 2 * self.tolerated + 1, "krum": 2 * self.tolerated + 3}.get(self.aggregation, 1)

    def check(self, owner: str, round: int, update: State, before: State) -> None:
        """Raise `UpdateRefused` if weights are missing, unknown, of another shape or dtype, not finite, or too far off.

        Args:
            owner: the owner of the update.
            round: its round, counted from 0.
            update: the weights of the owner after training.
            before: the average from which it started.
        """
        reason = fault_of(update, before, self.max_update_norm)
        if reason is not None:
            raise UpdateRefused(owner, round, reason)

    def combine(
        self, states: Sequence[State], weights: Sequence[float], numbers: Sequence[int] = ()
    ) -> dict[str, Tensor]:
        """Combine the states of a cohort to one, the same whichever process the owners are in.

        Args:
            states: states of the owners, in owner order.
            weights: their weights in the mean, which sum to 1; the robust rules ignore them.
            numbers: the owners' numbers; by default the positions of the states.

        Raises:
            ValueError: if there are too few states for the rule.
        """
        if self.aggregation == "mean":
            return weighted_mean(states, weights, numbers)
        if self.aggregation == "median":
            return trimmed_mean(states, (len(states) - 1) // 2)
        if self.aggregation == "trimmed_mean":
            return trimmed_mean(states, self.tolerated)
        return {key: value.clone() for key, value in states[krum(states, self.tolerated)].items()}


def fault_of(update: State, before: State, max_norm: float | None) -> str | None:
    """Return the reason to refuse an update, or None."""
    if update.keys() != before.keys():
        strange = sorted(update.keys() ^ before.keys())[0]
        return f"{strange!r} is {'missing' if strange in before else 'unknown'}"
    squares = 0.0
    for key, value in update.items():
        old = before[key]
        if value.shape != old.shape or value.dtype != old.dtype:
            wanted = f"{old.dtype} {list(old.shape)}"
            return f"{key} is {value.dtype} {list(value.shape)} and should be {wanted}"
        if value.is_floating_point():
            if not_finite(value):
                return f"{key} has values that are not finite"
            if max_norm is not None:
                squares += float((value.double() - old.double()).square().sum())
    if max_norm is not None and squares**0.5 > max_norm:
        return f"its distance from the average before is {squares**0.5:.4g}, and max_update_norm is {max_norm:g}"
    return None


def trimmed_mean(states: Sequence[State], cut_off: int) -> dict[str, Tensor]:
    """Compute per coordinate the mean without the ``cut_off`` smallest and largest values."""
    left = len(states) - 2 * cut_off
    if left < 1:
        raise ValueError(
            f"a trimmed mean of {len(states)} updates cannot leave out {cut_off} at either end; lower "
            f"reliability.tolerated or take a larger cohort"
        )
    return _by_coordinate(states, lambda stacked: stacked.sort(dim=0).values[cut_off : cut_off + left].mean(0))


def krum(states: Sequence[State], tolerated: int) -> int:
    """Return the index of the update that Krum selects; of equals the first."""
    needed = UpdateRules(aggregation="krum", tolerated=tolerated).num_needed
    if len(states) < needed:
        raise ValueError(
            f"Krum needs {needed} updates to tolerate {tolerated} wrong ones, and got {len(states)}; lower "
            f"reliability.tolerated or take a larger cohort"
        )
    flat = torch.stack(
        [torch.cat([v.double().flatten() for v in state.values() if v.is_floating_point()]) for state in states]
    )  # [n, dim]
    squared = torch.stack([(flat - row).square().sum(1) for row in flat])  # [n, n]
    nearest = squared.sort(dim=1).values[:, 1 : len(states) - tolerated - 1]  # without itself, at distance 0
    return int(nearest.sum(1).argmin())


def _by_coordinate(states: Sequence[State], reduce: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Reduce stacked values [n, ...] per entry; integer entries (batch counters) are copied from the first state."""
    first = states[0]
    return {
        key: reduce(torch.stack([state[key].double() for state in states])).to(value.dtype)
        if value.is_floating_point()
        else value.clone()
        for key, value in first.items()
    }


def weighted_mean(
    states: Sequence[State | None],
    weights: Sequence[float],
    numbers: Sequence[int] = (),
    *,
    sums: Mapping[Node, State] | None = None,
    like: State | None = None,
) -> dict[str, Tensor]:
    """Compute the weighted mean of state dicts, summed in double precision along a tree (`raysplit.cluster.sums.tree`).

    Args:
        states: state dicts with the same entries. Integer entries (batch counters) are copied from the first.
        weights: one weight for each state, which should sum to 1.
        numbers: the owners' numbers, which give the tree its shape; by default the positions of the states.
        sums: sums of nodes of the tree that were formed elsewhere; the states of their owners may be None.
        like: tensors of the types that the mean has; by default those of the first state.
    """
    like = states[0] if like is None else like
    assert like is not None, "a mean of sums alone needs its types"
    total = weighted_sum(states, weights, numbers or range(len(states)), sums=sums)
    return {key: value if value.dtype == like[key].dtype else value.to(like[key].dtype) for key, value in total.items()}
