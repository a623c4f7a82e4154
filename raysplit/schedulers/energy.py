"""Time and energy of federated multi-task training: a two-parameter model, and an account of what was measured.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285, count hours summed over all owners and groups. A full run with m
tasks costs T(m) = encoder + decoder * m, because the encoder is shared and each task adds its decoder; from it follow
the costs of every way to train n tasks. Energy is power times time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

JOULES_PER_KWH = 3.6e6
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, kw_only=True)
class TaskCost:
    """T(m) = encoder_hours + decoder_hours * m, the hours of a full run of R rounds with m tasks."""

    encoder_hours: float
    decoder_hours: float

    def hours(self, num_tasks: int) -> float:
        """Compute T(num_tasks)."""
        return self.encoder_hours + self.decoder_hours * num_tasks

    def one_by_one_hours(self, num_tasks: int) -> float:
        """Compute the hours of a separate run for each task."""
        return num_tasks * self.hours(1)

    def all_in_one_hours(self, num_tasks: int) -> float:
        """Compute the hours of one run of the merged model."""
        return self.hours(num_tasks)

    def mas_hours(self, num_tasks: int, num_groups: int, *, merged_share: float, overhead: float = 0.0) -> float:
        """Compute the hours of MAS: a merged model for the first rounds, then `num_groups` groups.

        Args:
            num_tasks: number n of tasks.
            num_groups: number of groups after the split.
            merged_share: R0 / R, the share of rounds before the split.
            overhead: share of time added by measuring affinities before the split; see `affinity_overhead`.
        """
        if not 0 <= merged_share <= 1:
            raise ValueError(f"merged_share is R0 / R, between 0 and 1, got {merged_share}")
        merged = self.hours(num_tasks) * (1 + overhead)
        split = num_groups * self.encoder_hours + num_tasks * self.decoder_hours
        return merged_share * merged + (1 - merged_share) * split

    def tag_hours(self, num_tasks: int, group_sizes: Sequence[int]) -> float:
        """Compute the hours of TAG: one merged run that measures affinities, then each group from scratch."""
        return self.hours(num_tasks) + sum(self.hours(size) for size in group_sizes)

    def hoa_hours(self, num_tasks: int, group_sizes: Sequence[int] = ()) -> float:
        """Compute the hours of HOA: every task alone, every pair, then the chosen groups of more than two tasks."""
        num_pairs = num_tasks * (num_tasks - 1) // 2
        larger = sum(self.hours(size) for size in group_sizes if size > 2)
        return self.one_by_one_hours(num_tasks) + num_pairs * self.hours(2) + larger

    def affinity_overhead(self, num_tasks: int, every_batches: int) -> float:
        """Compute the share of time added by measuring affinities on every `every_batches`-th batch.

        For each task: one backward pass of one task (2/3 of its training) and one forward pass of all (1/3).
        """
        if every_batches < 1:
            raise ValueError(f"every_batches must be at least 1, got {every_batches}")
        return num_tasks / every_batches * (2 * self.hours(1) + self.hours(num_tasks)) / (3 * self.hours(num_tasks))


def fit_task_cost(hours_by_num_tasks: Mapping[int, float]) -> TaskCost:
    """Fit a line to measured T(m) by least squares. Raises ValueError unless two different m were measured."""
    if len(hours_by_num_tasks) < 2:
        raise ValueError(
            f"T(m) needs runs with two different numbers of tasks, got {sorted(hours_by_num_tasks)}; measure another"
        )
    decoder, encoder = np.polyfit(list(hours_by_num_tasks), list(hours_by_num_tasks.values()), 1)
    return TaskCost(encoder_hours=float(encoder), decoder_hours=float(decoder))


@dataclass(frozen=True, kw_only=True)
class Charge:
    """The time and power of one owner in one round for one group of tasks, affinity passes included.

    Attributes:
        owner, group, round: who computed, for which group, and when.
        seconds: the time.
        watts: the power.
        tasks: those of the group's tasks that the owner trained; empty for all.
    """

    owner: str
    group: tuple[str, ...]
    round: int
    seconds: float
    watts: float
    tasks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.group or self.seconds < 0 or self.watts < 0:
            raise ValueError(f"a charge needs at least one task, and seconds and watts of at least 0, got {self}")

    @property
    def joules(self) -> float:
        """The energy of this charge."""
        return self.seconds * self.watts


@dataclass(frozen=True, kw_only=True)
class Spent:
    """A total of device hours and kWh."""

    hours: float
    kwh: float


def spent(charges: Iterable[Charge]) -> Spent:
    """Add up all charges."""
    records = list(charges)
    return Spent(
        hours=sum(charge.seconds for charge in records) / SECONDS_PER_HOUR,
        kwh=sum(charge.joules for charge in records) / JOULES_PER_KWH,
    )


def spent_by_owner(charges: Iterable[Charge]) -> dict[str, Spent]:
    """Add up charges by owner."""
    return _spent_by(charges, lambda charge: {charge.owner: 1.0})


def spent_by_group(charges: Iterable[Charge]) -> dict[tuple[str, ...], Spent]:
    """Add up charges by group of tasks."""
    return _spent_by(charges, lambda charge: {charge.group: 1.0})


def spent_by_task(charges: Iterable[Charge]) -> dict[str, Spent]:
    """Add up charges by task; the tasks trained share a charge equally, as their decoders have one size."""

    def shares(charge: Charge) -> dict[str, float]:
        trained = charge.tasks or charge.group
        return dict.fromkeys(trained, 1 / len(trained))

    return _spent_by(charges, shares)


Key = TypeVar("Key", str, tuple[str, ...])


def _spent_by(charges: Iterable[Charge], shares: Callable[[Charge], Mapping[Key, float]]) -> dict[Key, Spent]:
    totals: dict[Key, Spent] = {}
    for charge in charges:
        for key, share in shares(charge).items():
            before, own = totals.get(key, Spent(hours=0.0, kwh=0.0)), spent([charge])
            totals[key] = Spent(hours=before.hours + share * own.hours, kwh=before.kwh + share * own.kwh)
    return totals
