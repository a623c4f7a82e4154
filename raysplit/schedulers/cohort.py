"""The owners that take part in a round, and those for which it waits."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor
from typing import Literal

from numpy.random import Generator
from pydantic import Field

from raysplit.schedulers.rules import Rules


def choose_cohort(owners: Sequence[str], size: int | None, rng: Generator) -> tuple[str, ...]:
    """Draw ``size`` owners without replacement, and return them in owner order; all owners if ``size`` is None."""
    if size is None or size >= len(owners):
        return tuple(owners)
    chosen = sorted(rng.choice(len(owners), size=size, replace=False).tolist())
    return tuple(owners[i] for i in chosen)


class QuorumRules(Rules):
    """The rule of the smallest cohort that suffices."""

    quorum: float = Field(default=0.5, gt=0, le=1)
    """Smallest share of a cohort with which a round continues without the others."""

    def quorum_of(self, num_owners: int) -> int:
        """Return the quorum of a number of owners: the share rounded up, at least one."""
        return max(1, ceil(num_owners * self.quorum - 1e-9))


class CohortRules(QuorumRules):
    """Rules for how long a round waits, and for whom.

    From Bonawitz et al., "Towards Federated Learning at Scale" (2019, arXiv 1902.01046). In the methods, ``size`` is
    the number of owners that a round wants; None wants all, except for the share of ``over_selection``.
    """

    over_selection: float = Field(default=0.0, ge=0)
    """Share of owners drawn in addition to ``training.cohort_size``; a round uses the updates that arrive first.

    This and ``round_deadline_s`` are for methods whose owners work independently (fedavg, fedprox, fednova), and make
    results depend on time.
    """
    round_deadline_s: float | None = Field(default=None, gt=0)
    """Seconds after which a round continues with the updates that have arrived, if they are a quorum; None waits for
    all."""
    late: Literal["drop", "merge"] = "drop"
    """Treatment of an update that arrives too late: ``drop`` ignores it, ``merge`` counts it in the next round."""

    @property
    def is_open(self) -> bool:
        """Whether a round may end without some of its cohort."""
        return self.over_selection > 0 or self.round_deadline_s is not None

    def num_drawn(self, available: int, size: int | None) -> int:
        """Return the number of owners to draw so that ``size`` of them arrive in time."""
        return available if size is None else min(available, ceil(size * (1 + self.over_selection) - 1e-9))

    def num_wanted(self, drawn: int, size: int | None) -> int:
        """Return the number of owners for which a round waits, of those that were drawn."""
        return min(drawn, size) if size else max(1, floor(drawn / (1 + self.over_selection) + 1e-9))


class Gathering:
    """The state of a round that gathers updates: who has arrived, who will not, and whether to wait longer.

    It reads no clock; `is_over` receives the elapsed time.
    """

    def __init__(self, rules: CohortRules, cohort: Sequence[str], size: int | None = None) -> None:
        self._rules = rules
        self._cohort = tuple(cohort)
        self._wanted = rules.num_wanted(len(cohort), size)
        self._needed = rules.quorum_of(self._wanted)
        self._came: set[str] = set()
        self._gone: set[str] = set()

    @property
    def came(self) -> tuple[str, ...]:
        """The owners that have arrived, in owner order."""
        return tuple(name for name in self._cohort if name in self._came)

    def arrive(self, owner: str) -> None:
        """Note that an owner's update has arrived."""
        self._came.add(owner)

    def lose(self, owner: str) -> None:
        """Note that an owner's update will not arrive."""
        self._gone.add(owner)

    @property
    def is_hopeless(self) -> bool:
        """Whether too few owners are left for a quorum."""
        return len(self._cohort) - len(self._gone - self._came) < self._needed

    def is_over(self, elapsed_s: float) -> bool:
        """Whether all wanted or remaining owners have arrived, or the deadline has passed with a quorum."""
        num_possible = len(self._cohort) - len(self._gone - self._came)
        if self._came and len(self._came) >= min(self._wanted, num_possible):
            return True
        deadline_s = self._rules.round_deadline_s
        return deadline_s is not None and elapsed_s >= deadline_s and len(self._came) >= self._needed
