"""Who has which tasks: the cohorts of groups, the tasks that an owner trains in a group, and pairs that nobody has.

In Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285, every owner has every task. Where owners have some of them
(``owners.tasks``), a group's cohort is drawn among the owners with at least one of its tasks, by the stream by which
the cohort of all owners is drawn: groups of the same owners have the same cohort. In a group, an owner trains the
shared encoder and the decoders of its own tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from raysplit.actors.aggregation import UpdateRules
from raysplit.algorithms.setting import Setting
from raysplit.schedulers.grouping.known import pairs_shown


@dataclass(frozen=True, kw_only=True)
class TaskOwners:
    """The tasks of each owner.

    Attributes:
        tasks: all tasks, in their order.
        by_owner: the tasks of each owner, in owner order.
    """

    tasks: tuple[str, ...]
    by_owner: Mapping[str, tuple[str, ...]]

    @classmethod
    def of_setting(cls, setting: Setting, tasks: tuple[str, ...]) -> TaskOwners:
        """Read who has which tasks. Raises ``ValueError`` for a task that no owner has."""
        have = {name: tasks if data.tasks is None else data.tasks for name, data in setting.owners.items()}
        found = cls(tasks=tasks, by_owner={name: tuple(t for t in tasks if t in own) for name, own in have.items()})
        if nobodys := [task for task in tasks if not found.owners((task,))]:
            raise ValueError(
                f"no owner has the task {nobodys[0]}, so nobody can train a group of it; give it to an owner in "
                f"owners.tasks, or leave it out of data.tasks"
            )
        return found

    def refuse_rules(self, rules: UpdateRules) -> None:
        """Raise ``ValueError`` for rules that need several updates of a decoder, which may get one."""
        if not self.all_have_all and rules.num_needed > 1:
            raise ValueError(
                f"reliability.aggregation {rules.aggregation} needs {rules.num_needed} updates of all weights, and "
                f"with owners.tasks a task's decoder gets those of the owners that have it; set it to mean or median, "
                f"or leave owners.tasks out"
            )

    @cached_property
    def all_have_all(self) -> bool:
        """Whether every owner has every task."""
        return all(own == self.tasks for own in self.by_owner.values())

    def of(self, owner: str, group: Sequence[str]) -> tuple[str, ...]:
        """Return the tasks of a group that an owner has, in the group's order."""
        return tuple(group) if self.all_have_all else tuple(task for task in group if task in self.by_owner[owner])

    def owners(self, group: Sequence[str]) -> tuple[str, ...]:
        """Return the owners with at least one of a group's tasks, in owner order."""
        return tuple(name for name, own in self.by_owner.items() if not set(own).isdisjoint(group))

    def parts(self, group: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Return the tasks of a group of each owner that has some of them, but not all."""
        own = {name: self.of(name, group) for name in self.owners(group)}
        return {name: tasks for name, tasks in own.items() if len(tasks) < len(group)}

    def apart(self, tasks: Sequence[str], within: Sequence[Sequence[str]] | None = None) -> list[tuple[str, str]]:
        """List the pairs of tasks that no owner has both of, or none of these cohorts."""
        cohorts = [self.by_owner] if within is None else within
        have = {frozenset(self.by_owner[name]) for cohort in cohorts for name in cohort}
        return [pair for pair in combinations(tasks, 2) if not any(own.issuperset(pair) for own in have)]

    def measure(self, cohort: Sequence[str], group: Sequence[str]) -> tuple[str, ...]:
        """Return those of a cohort that measure affinities in a group: whoever has two of its tasks, or all."""
        return tuple(name for name in cohort if measures(self.of(name, group), group))


def measures(own: Sequence[str], group: Sequence[str]) -> bool:
    """Whether an owner with these tasks of a group measures affinities in it."""
    return len(own) > 1 or len(own) == len(group)


def refuse_apart(pairs: Sequence[tuple[str, str]], why: str, way_out: str) -> None:
    """Raise ``ValueError`` where there are pairs of tasks whose affinity nobody can measure."""
    if pairs:
        raise ValueError(
            f"no owner has both tasks of {pairs_shown(pairs)}, so nobody measures their affinity, and {why}; {way_out}"
        )


def united(order: Sequence[str], cohorts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return everybody in one of the cohorts, in an order."""
    together = {name for cohort in cohorts for name in cohort}
    return tuple(name for name in order if name in together)
