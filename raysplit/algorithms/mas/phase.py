"""Groups of tasks in training, and the phases that a run goes through.

Every method that trains several tasks is a list of phases: which groups train, from which weights, by which part of the
learning-rate schedule (Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285, and its baselines).
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
"""What a group takes over from the groups before it: encoder and decoders, the encoder alone, or nothing."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What trains until something else is decided.

    Attributes:
        groups: the groups of tasks, each with a model of its own.
        schedule_from, schedule_rounds: the learning rate is that of a run of so many rounds begun in that round.
        inherit: from the groups of the phase before.
        keep: groups of earlier phases whose models go on serving though they train no more.
    """

    groups: Groups
    schedule_from: int
    schedule_rounds: int
    inherit: Inheritance = "nothing"
    keep: Groups = ()


@dataclass(frozen=True, kw_only=True)
class TaskGroup:
    """A group with its parties.

    Attributes:
        opened: the round in which it began.
        owners: who trains it, by owner: the owners' own parties, or copies in places of the group's own.
        added: the parties that were made for this group alone: copies of the owners', if any, and the aggregator.
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
        """Its name among all groups of the run."""
        return name_at(self.label, self.opened)

    @property
    def is_apart(self) -> bool:
        """Whether it has places of its own."""
        return len(self.added) > 1


def plain_phase(phase: Phase) -> dict[str, Any]:
    """As plain values."""
    return {field.name: getattr(phase, field.name) for field in fields(phase)}


def label_of(tasks: Sequence[str]) -> str:
    """``s+d+n``."""
    return "+".join(tasks)


def nearest(groups: Sequence[TaskGroup], tasks: Sequence[str]) -> TaskGroup:
    """The group that has most of these tasks; the first of equals."""
    return max(groups, key=lambda group: len(set(group.tasks) & set(tasks)))


async def inherit(group: TaskGroup, before: Sequence[TaskGroup], what: Inheritance) -> None:
    """Give a new group the encoder of the group nearest to it, and every task's decoder from a group that has it."""
    if what == "nothing" or not before:
        return
    parent = nearest(before, group.tasks)
    others = [source for source in before if source is not parent]
    for source in [*others, parent]:  # the nearest has the last word
        decoders = tuple(task for task in group.tasks if task in source.tasks) if what == "all" else ()
        if decoders or source is parent:
            state = source.aggregator.current()
            await group.aggregator.inherit(state, encoder=source is parent, decoders=decoders)
