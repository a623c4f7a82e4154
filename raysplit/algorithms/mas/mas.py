"""Merge and split: all tasks in one model until their affinities are known, then group by group from its weights.

Zhuang, Wen, Lyu, Zhang, "MAS: Towards Resource-Efficient Federated Multiple-Task Learning", ICCV 2023,
arXiv 2307.11285. The merged model trains for R0 rounds of FedAvg while owners measure affinities; the partition with
the largest mean affinity is chosen; each group continues with the encoder and its tasks' decoders for the other R - R0
rounds. A task that is added later is trained in every group for a few trial rounds, and then joins the group with the
best affinities.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from raysplit.actors.records import RoundContext
from raysplit.algorithms.mas.measuring import MeasuringOptions, MeasuringTraining, plain_affinity
from raysplit.algorithms.mas.phase import Inheritance, Phase
from raysplit.algorithms.setting import Options, Setting
from raysplit.algorithms.unused import RunOutline
from raysplit.schedulers.grouping.scores import (
    Affinity,
    Groups,
    join,
    mean_affinity,
    partition_score,
    random_groups,
    widened,
    worst_exact_x,
)
from raysplit.schedulers.grouping.when import FixedRound, SplitDecision, SplitRule, StableRanking, decide
from raysplit.seeding import generator

logger = logging.getLogger(__name__)


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

    def idle(self) -> dict[str, str]:
        fixed = [] if self.merged_rounds == "auto" else self.changed("window", "min_correlation")
        unneeded = [] if self.new_tasks else self.changed("trial_rounds")
        idle = super().idle() | dict.fromkeys(fixed, "merged_rounds is a number")
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


class MAS(MeasuringTraining):
    """MAS: trains all tasks merged, splits them into groups by affinity, and admits new tasks."""

    name = "mas"
    title = "MAS"
    options_type: ClassVar[type[Options]] = MASOptions

    @classmethod
    def check(cls, options: Any, outline: RunOutline) -> None:
        super().check(options, outline)
        merged, rounds = options.merged_rounds, outline.rounds
        if isinstance(merged, int) and merged and not 1 <= merged < rounds:
            fitting = f"give merged_rounds 1 to {rounds - 1}" if rounds > 1 else "give at least 2 rounds"
            raise ValueError(
                f"algorithm.merged_rounds is {merged} and training.rounds is {rounds}, and MAS trains merged and then "
                f"in groups; {fitting}"
            )

    def set_up(self, setting: Setting) -> None:
        options: MASOptions = self.options
        self._affinity: Affinity | None = None  # the one by which the present groups were chosen
        self._trials: list[tuple[Affinity, ...]] = []
        self._waiting = dict(options.new_tasks)
        super().set_up(setting)
        merged = self._merged_tasks()
        self.require_tasks(options.num_groups, merged)
        single = (1, len(merged)) if options.mode == "exact" else (1,)
        if not options.named_groups and options.partition != "affinity" and options.num_groups in single:
            raise ValueError(
                f"partition is {options.partition}, for comparison with the groups by affinity, and {len(merged)} "
                f"tasks have a single partition into {options.num_groups} groups; give num_groups 2 to "
                f"{len(merged) - 1}, or leave partition out"
            )

    @staticmethod
    def _check_named(groups: Groups, tasks: tuple[str, ...]) -> None:
        """Raise ``ValueError`` unless every merged task is in one of the groups, once."""
        named = [task for group in groups for task in group]
        if sorted(named) != sorted(tasks) or not all(groups):
            raise ValueError(
                f"algorithm.partition is {[list(group) for group in groups]}, and it must name each of the merged "
                f"tasks {', '.join(tasks)} once"
            )

    def first_phase(self) -> Phase:
        tasks = self.spec.tasks
        if unknown := [task for task in self._waiting if task not in tasks]:
            raise ValueError(
                f"new_tasks names {unknown[0]!r}, which is no task of the data; the tasks are {', '.join(tasks)}"
            )
        merged = self._merged_tasks()
        if not merged:
            raise ValueError("new_tasks lists all tasks; leave at least one out, with which training begins")
        if self.options.named_groups:
            self._check_named(self.options.named_groups, merged)
        self._refuse_late_trials()
        groups = (merged,) if self.options.merged_rounds else self._named(tasks)
        return Phase(groups=groups, schedule_from=0, schedule_rounds=self.setting.rounds)

    def _merged_tasks(self) -> tuple[str, ...]:
        """The tasks with which training begins."""
        return tuple(task for task in self.spec.tasks if task not in self.options.new_tasks)

    def _named(self, order: tuple[str, ...]) -> Groups:
        """The groups that ``partition`` names, their tasks in an order."""
        return tuple(tuple(sorted(group, key=order.index)) for group in self.options.named_groups)

    def _refuse_late_trials(self) -> None:
        """Raise ``ValueError`` for a new task whose trial cannot end before the last round."""
        options, rounds = self.options, self.setting.rounds
        done = options.merged_rounds if isinstance(options.merged_rounds, int) else 1
        for task, first in sorted(self._waiting.items(), key=lambda item: item[1]):
            begins = max(done + 1, first)
            done = begins + options.trial_rounds
            if done >= rounds:
                raise ValueError(
                    f"algorithm.new_tasks lets {task} begin in round {first}, and its trial of {options.trial_rounds} "
                    f"rounds, which cannot begin before round {begins}, does not end before the last of {rounds} "
                    f"rounds; give an earlier round, fewer algorithm.trial_rounds or more training.rounds"
                )

    def measures(self, round: int) -> bool:
        if not self.options.merged_rounds:
            return False
        if self._affinity is not None:
            return self._on_trial is not None
        return super().measures(round)

    async def next_phase(self, context: RoundContext) -> Phase | None:
        done = context.round + 1
        if not self.options.merged_rounds:
            return None
        if self._affinity is None:
            if self.measures(context.round):
                self.history += await self.collect(context)
            return self._split(done)
        if self._on_trial is not None:
            self._trials.append(await self.collect(context))
            return self._admit(self._on_trial) if len(self._trials) == self.options.trial_rounds else None
        return self._try_newcomer(done)

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "affinity": self._affinity and plain_affinity(self._affinity),
            "trials": [[plain_affinity(affinity) for affinity in trial] for trial in self._trials],
            "waiting": dict(self._waiting),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._affinity = state["affinity"] and Affinity(**state["affinity"])
        self._trials = [tuple(Affinity(**affinity) for affinity in trial) for trial in state["trials"]]
        self._waiting = dict(state["waiting"])

    # -- the split -----------------------------------------------------------------------------------------------

    def _split(self, done: int) -> Phase | None:
        options, rounds = self.options, self.setting.rounds
        rule, num_groups = options.split_rule, options.num_groups
        decision = decide(rule, self.history, num_groups=num_groups, mode=options.mode, num_rounds=done)
        if decision is None or done >= rounds:
            return None
        groups = self._groups_of(decision)
        self._affinity = decision.affinity
        self.decide(
            decision.reason,
            round=done,
            partition=options.partition,
            groups=groups,
            score=partition_score(decision.affinity, groups),
            best={len(option.groups): _scored(option.groups, option.score) for option in decision.alternatives},
        )
        from_round, length = (done, rounds - done) if options.restart_schedule else (0, rounds)
        return Phase(groups=groups, schedule_from=from_round, schedule_rounds=length, inherit=options.inherit)

    def _groups_of(self, decision: SplitDecision) -> Groups:
        if self.options.named_groups:
            return self._named(decision.affinity.tasks)
        chosen = decision.chosen.groups
        tasks, control = decision.affinity.tasks, self.options.partition
        if control == "affinity":
            return chosen
        if len(chosen) in (1, len(tasks)):
            logger.warning(
                "partition is %s, and %d tasks have a single partition into %d groups: this run is no control",
                *(control, len(tasks), len(chosen)),
            )
            return chosen
        if control == "random":
            return random_groups(tasks, chosen, generator(self.setting.seed, "random groups"))
        return worst_exact_x(decision.affinity, len(chosen)).groups

    # -- new tasks -----------------------------------------------------------------------------------------------

    @property
    def _on_trial(self) -> str | None:
        """The task that all groups train on trial."""
        assert self._affinity is not None
        strangers = [task for task in self.phase.groups[0] if task not in self._affinity.tasks]
        return strangers[0] if strangers else None

    def _try_newcomer(self, done: int) -> Phase | None:
        ready = [task for task, round in self._waiting.items() if round <= done]
        if not ready or done + self.options.trial_rounds >= self.setting.rounds:
            return None
        del self._waiting[ready[0]]
        self._trials = []
        return self._regrouped(tuple((*group, ready[0]) for group in self.phase.groups))

    def _admit(self, newcomer: str) -> Phase:
        assert self._affinity is not None
        groups = tuple(tuple(task for task in group if task != newcomer) for group in self.phase.groups)
        tried = [mean_affinity(rounds) for rounds in zip(*self._trials, strict=True)]
        self._affinity = widened(self._affinity, newcomer, tried)
        chosen = join(self._affinity, groups, newcomer)
        self.decide(
            f"task {newcomer} was tried in every group for {len(self._trials)} rounds",
            groups=chosen.groups,
            score=chosen.score,
        )
        return self._regrouped(chosen.groups)

    def _regrouped(self, groups: Groups) -> Phase:
        phase = self.phase
        return Phase(
            groups=groups, schedule_from=phase.schedule_from, schedule_rounds=phase.schedule_rounds, inherit="all"
        )


def _scored(groups: Groups, score: float) -> dict[str, Any]:
    return {"groups": groups, "score": score}
