"""The options of merge and split: the round of the split, the groups, and their initial weights.

Zhuang, Wen, Lyu, Zhang, "MAS", ICCV 2023, arXiv 2307.11285; R0 is the round of the split.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from raysplit.algorithms.mas.measuring import MeasuringOptions
from raysplit.algorithms.mas.phase import Inheritance, label_of, tasks_of
from raysplit.schedulers.grouping.scores import Groups
from raysplit.schedulers.grouping.when import FixedRound, SplitRule, StableRanking


class MASOptions(MeasuringOptions):
    """Options of MAS: the round of the split, the groups, and their initial weights."""

    merged_rounds: Annotated[int, Field(ge=0)] | Literal["auto"] = 30
    """Number R0 of rounds before the split; ``auto`` splits once the ranking of affinities has been stable for
    ``window`` rounds. 0 trains the groups that ``partition`` names from the first round on, from the weights of a
    merged model in ``model.weights``."""
    window: int = Field(default=5, ge=1)
    """Number of past rounds with which ``merged_rounds: auto`` compares the ranking of affinities."""
    min_correlation: float = Field(default=0.95, ge=-1, le=1)
    """Lowest rank correlation at which ``merged_rounds: auto`` counts a ranking as stable."""
    measured_rounds: int | None = Field(default=None, ge=1)
    """Number of rounds, from ``measured_from`` on, in which affinities are measured; None measures in all merged rounds
    from there."""
    num_groups: int = Field(default=2, ge=1)
    """Number of groups after the split."""
    mode: Literal["exact", "at-most"] = "exact"
    """Meaning of ``num_groups``: the ``exact`` number, or the largest (``at-most``)."""
    partition: Literal["affinity", "random", "worst"] | tuple[tuple[str, ...], ...] = "affinity"
    """Choice of the groups: the best by ``affinity``; for comparison, ``random`` groups of the same sizes, drawn among
    all but these, the ``worst`` by affinity, or groups by the names of their tasks, such as ``[[s, k], [d, n, t]]``."""
    inherit: Inheritance = "all"
    """Initial weights of a group: ``all`` of its weights in the merged model, only the ``encoder``, or ``nothing``."""
    group_models: dict[str, dict[str, Any]] = {}
    """Other networks than the merged one for groups that ``partition`` names, by the tasks of the group: options in
    place of those of ``model``, such as ``{s+k: {width: 1, encoder: resnet18}}``, or the ``name`` of another network
    with its options. Such a group inherits nothing: it begins from the seed of the run."""
    restart_schedule: bool = True
    """Whether the learning-rate schedule starts again at the split, over the remaining rounds."""
    new_tasks: dict[str, int] = {}
    """Tasks that are added later, each with the first round, counted from 0, in which its trial may begin."""
    trial_rounds: int = Field(default=2, ge=1)
    """Number of rounds for which a new task is trained in every group before it joins one."""

    @model_validator(mode="after")
    def _consistent(self) -> MASOptions:
        if self.named_groups and self.num_groups != len(self.named_groups):
            if "num_groups" in self.model_fields_set:
                raise ValueError(
                    f"partition names {len(self.named_groups)} groups and num_groups is {self.num_groups}; leave "
                    f"num_groups out"
                )
            object.__setattr__(self, "num_groups", len(self.named_groups))
        if self.merged_rounds == "auto" and self.measured_rounds is not None:
            raise ValueError(
                f"merged_rounds: auto needs the affinities of every merged round, and measured_rounds is "
                f"{self.measured_rounds}; leave measured_rounds out, or give merged_rounds a number"
            )
        if self.merged_rounds == 0 and (self.new_tasks or not self.named_groups):
            lacking = "new_tasks join by affinities" if self.named_groups else f"partition is {self.partition}"
            raise ValueError(
                f"merged_rounds is 0, so that no affinities are measured, and {lacking}; name the groups in partition, "
                f"and leave new_tasks out"
            )
        return self

    @model_validator(mode="after")
    def _known_groups(self) -> MASOptions:
        if not self.group_models:
            return self
        if not self.named_groups or self.new_tasks:
            known = "its groups change when new_tasks join" if self.named_groups else f"partition is {self.partition}"
            raise ValueError(
                f"group_models gives groups models of their own, and {known}; name the groups in partition, and leave "
                f"new_tasks out"
            )
        groups = {frozenset(group): label_of(group) for group in self.named_groups}
        named = [frozenset(tasks_of(label)) for label in self.group_models]
        for label, tasks in zip(self.group_models, named, strict=True):
            if tasks not in groups or named.count(tasks) > 1:
                why = "names its group again" if tasks in groups else "is no group of partition"
                raise ValueError(f"group_models: {label} {why}; the groups are {', '.join(groups.values())}, each once")
        if len(groups) == 1 and self.merged_rounds:
            raise ValueError(
                f"group_models replaces the model of {label_of(self.named_groups[0])}, the only group, which inherits "
                f"nothing of the merged rounds; train it with algorithm.name: all_in_one and the options in model"
            )
        return self

    def idle(self) -> dict[str, str]:
        fixed = [] if self.merged_rounds == "auto" else self.changed("window", "min_correlation")
        unneeded = [] if self.new_tasks else self.changed("trial_rounds")
        idle = super().idle() | dict.fromkeys(fixed, "merged_rounds is a number")
        all_own = self.group_models and len(self.group_models) == len(self.named_groups)
        uninherited = self.changed("inherit") if all_own else []
        idle |= dict.fromkeys(uninherited, "every group has a model of its own in group_models")
        return idle | dict.fromkeys(unneeded, "there are no new_tasks")

    @property
    def named_groups(self) -> Groups:
        """The groups that ``partition`` names; empty where it is a rule."""
        return () if isinstance(self.partition, str) else self.partition

    @property
    def split_rule(self) -> SplitRule:
        if self.merged_rounds == "auto":
            return StableRanking(num_rounds=self.window, min_correlation=self.min_correlation)
        return FixedRound(num_rounds=self.merged_rounds)
