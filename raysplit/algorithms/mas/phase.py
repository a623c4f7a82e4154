"""The phases of a run that trains groups of tasks, and the groups themselves.

Every method that trains several tasks is a list of phases: which groups train, from which initial weights, in which
part of the learning-rate schedule (Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285, and its baselines).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from raysplit.actors.parts.stage import PartRecipe
from raysplit.algorithms.mas.aggregator import GroupAggregatorHandle
from raysplit.cluster.contract import PartySpec, name_at
from raysplit.schedulers.grouping.scores import Groups

if TYPE_CHECKING:
    from raysplit.algorithms.mas.owner import MultiTaskOwnerHandle

Inheritance = Literal["all", "encoder", "nothing"]
"""The weights that a group inherits from the groups before it: encoder and decoders, the encoder only, or nothing."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """The groups that train until the next decision.

    Attributes:
        groups: the groups of tasks, each with a model of its own.
        schedule_from: the round in which the learning-rate schedule starts.
        schedule_rounds: the number of rounds that the schedule covers.
        inherit: the weights that groups inherit from those of the phase before.
        keep: groups of earlier phases that no longer train, but whose models are still served.
    """

    groups: Groups
    schedule_from: int
    schedule_rounds: int
    inherit: Inheritance = "nothing"
    keep: Groups = ()


@dataclass(frozen=True, kw_only=True)
class TaskGroup:
    """A group of tasks with its parties.

    Attributes:
        tasks: the names of its tasks.
        opened: the round in which it was opened.
        recipe: its model and how that is trained.
        aggregator: the handle of its aggregator.
        owners: handles of the parties that train it, by owner: the owners' own, or copies in places of the group.
        added: the parties that were added for this group: copies of the owners' parties if any, and the aggregator.
    """

    tasks: tuple[str, ...]
    opened: int
    recipe: PartRecipe
    aggregator: GroupAggregatorHandle
    owners: Mapping[str, MultiTaskOwnerHandle]
    added: tuple[PartySpec, ...]

    @property
    def label(self) -> str:
        return label_of(self.tasks)

    @property
    def key(self) -> str:
        """The name of this group, unique in the run."""
        return name_at(self.label, self.opened)

    @property
    def is_apart(self) -> bool:
        """Whether this group trains in places of its own."""
        return len(self.added) > 1


def plain_phase(phase: Phase) -> dict[str, Any]:
    """Convert a phase to plain values."""
    return {field.name: getattr(phase, field.name) for field in fields(phase)}


def label_of(tasks: Sequence[str]) -> str:
    """Join the names of tasks to a label such as ``s+d+n``."""
    return "+".join(tasks)


def tasks_of(label: str) -> tuple[str, ...]:
    """Divide a label into the names of its tasks."""
    return tuple(label.split("+"))


def all_tasks(groups: Sequence[TaskGroup]) -> tuple[str, ...]:
    """List all tasks of these groups in the order of their first appearance."""
    return tuple(dict.fromkeys(task for group in groups for task in group.tasks))


def nearest(groups: Sequence[TaskGroup], tasks: Sequence[str]) -> TaskGroup:
    """Find the group with most of these tasks; the first of equals."""
    return max(groups, key=lambda group: len(set(group.tasks) & set(tasks)))


async def inherit(group: TaskGroup, before: Sequence[TaskGroup], what: Inheritance) -> None:
    """Give a new group the encoder of the nearest earlier group, and each task's decoder from a group that has it."""
    if what == "nothing" or not before:
        return
    parent = nearest(before, group.tasks)
    others = [source for source in before if source is not parent]
    for source in [*others, parent]:  # the nearest comes last, so that its decoders prevail
        decoders = tuple(task for task in group.tasks if task in source.tasks) if what == "all" else ()
        if decoders or source is parent:
            state = source.aggregator.current()
            await group.aggregator.inherit(state, encoder=source is parent, decoders=decoders)
