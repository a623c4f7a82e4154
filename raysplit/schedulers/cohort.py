"""Who takes part in a round, and for whom it waits."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor
from typing import Literal

from numpy.random import Generator
from pydantic import Field

from raysplit.schedulers.rules import Rules


def choose_cohort(owners: Sequence[str], size: int | None, rng: Generator) -> tuple[str, ...]:
    """``size`` owners drawn without replacement, in owner order; all of them when ``size`` is None."""
    if size is None or size >= len(owners):
        return tuple(owners)
    chosen = sorted(rng.choice(len(owners), size=size, replace=False).tolist())
    return tuple(owners[i] for i in chosen)


class QuorumRules(Rules):
    """How many of a cohort are enough."""

    quorum: float = Field(default=0.5, gt=0, le=1)
    """The share of a cohort that must be left for a round to go on without the others."""

    def quorum_of(self, num_owners: int) -> int:
        """How many of so many owners make a quorum: the share rounded up, at least one."""
        return max(1, ceil(num_owners * self.quorum - 1e-9))


class CohortRules(QuorumRules):
    """For whom a round waits (Bonawitz et al., "Towards Federated Learning at Scale", 2019, arXiv 1902.01046).

    ``size`` is how many owners a round wants; None wants all of them, but for the share of ``over_selection``.
    """

    over_selection: float = Field(default=0.0, ge=0)
    """Draw this share of owners more than ``training.cohort_size`` and take the first to come.

    This and ``round_deadline_s`` are for methods whose owners work apart from one another (fedavg, fedprox), and make
    results depend on time.
    """
    round_deadline_s: float | None = Field(default=None, gt=0)
    """After so many seconds a round goes on with those who came, if they are a quorum; None waits."""
    late: Literal["drop", "merge"] = "drop"
    """An update that comes too late is left out (``drop``), or counts in the next round (``merge``)."""

    @property
    def is_open(self) -> bool:
        """Whether a round may go on without some of its cohort."""
        return self.over_selection > 0 or self.round_deadline_s is not None

    def num_drawn(self, available: int, size: int | None) -> int:
        """How many owners to draw so that the wanted number comes."""
        return available if size is None else min(available, ceil(size * (1 + self.over_selection) - 1e-9))

    def num_wanted(self, drawn: int, size: int | None) -> int:
        """How many of the owners drawn are waited for."""
        return min(drawn, size) if size else max(1, floor(drawn / (1 + self.over_selection) + 1e-9))


class Gathering:
    """Who of a cohort has come, who will not come, and whether the wait is over. Knows no clock but what it is told."""

    def __init__(self, rules: CohortRules, cohort: Sequence[str], size: int | None = None) -> None:
        self._rules = rules
        self._cohort = tuple(cohort)
        self._wanted = rules.num_wanted(len(cohort), size)
        self._needed = rules.quorum_of(self._wanted)
        self._came: set[str] = set()
        self._gone: set[str] = set()

    @property
    def came(self) -> tuple[str, ...]:
        """In owner order."""
        return tuple(name for name in self._cohort if name in self._came)

    def arrive(self, owner: str) -> None:
        self._came.add(owner)

    def lose(self, owner: str) -> None:
        """It will not come."""
        self._gone.add(owner)

    @property
    def is_hopeless(self) -> bool:
        """Too few are left for a quorum."""
        return len(self._cohort) - len(self._gone - self._came) < self._needed

    def is_over(self, elapsed_s: float) -> bool:
        """All who are wanted or can still come are there; or time is up and there is a quorum."""
        num_possible = len(self._cohort) - len(self._gone - self._came)
        if self._came and len(self._came) >= min(self._wanted, num_possible):
            return True
        deadline_s = self._rules.round_deadline_s
        return deadline_s is not None and elapsed_s >= deadline_s and len(self._came) >= self._needed
