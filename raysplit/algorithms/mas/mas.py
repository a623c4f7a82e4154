"""Merge and split: all tasks in one model until their affinities are known, then group by group from its weights.

Zhuang, Wen, Lyu, Zhang, "MAS: Towards Resource-Efficient Federated Multiple-Task Learning", ICCV 2023,
arXiv 2307.11285. The merged model trains for R0 rounds of FedAvg while owners measure affinities; the partition with
the largest mean affinity is chosen; each group goes on with the encoder and its tasks' decoders for the other R - R0
rounds. A task that comes later is tried in every group for some rounds, which go on training meanwhile, and joins the
one whose affinities with it are best.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from raysplit.actors.records import RoundContext
from raysplit.algorithms.mas.measuring import MeasuringOptions, MeasuringTraining, plain_affinity
from raysplit.algorithms.mas.phase import Inheritance, Phase
from raysplit.algorithms.setting import Options, Setting
from raysplit.schedulers.grouping.scores import (
    Affinity,
    Groups,
    join,
    mean_affinity,
    partition_score,
    random_groups,
    worst_exact_x,
)
from raysplit.schedulers.grouping.when import FixedRound, SplitDecision, SplitRule, StableRanking, decide
from raysplit.seeding import generator


class MASOptions(MeasuringOptions):
    """When to split, into what, and what the groups begin with."""

    merged_rounds: int | Literal["auto"] = Field(default=30)
    """R0; ``auto`` splits when the ranking of affinities has been stable for ``window`` rounds, its rank correlation
    being at least ``min_correlation`` throughout."""
    window: int = Field(default=5, ge=1)
    min_correlation: float = Field(default=0.95, ge=-1, le=1)
    measured_rounds: int | None = Field(default=None, ge=1)
    """Measure affinities in the first so many rounds alone; None in all merged ones."""
    num_groups: int = Field(default=2, ge=1)
    """X groups, exactly or ``at-most``."""
    mode: Literal["exact", "at-most"] = "exact"
    partition: Literal["affinity", "random", "worst"] = "affinity"
    """By ``affinity``; for comparison ``random`` with the same group sizes, or the ``worst`` by affinity."""
    inherit: Inheritance = "all"
    """Groups begin with ``all`` they had in the merged model, with its ``encoder``, or with ``nothing``."""
    restart_schedule: bool = True
    """The groups' learning rates begin anew, over the rounds that are left."""
    new_tasks: dict[str, int] = {}
    """Tasks that come later, and the round (counted from 0) from which they may be tried."""
    trial_rounds: int = Field(default=2, ge=1)
    """How long a new task is tried in every group."""

    @model_validator(mode="after")
    def _consistent(self) -> MASOptions:
        if self.merged_rounds == "auto" and self.measured_rounds is not None:
            raise ValueError("merged_rounds is auto and looks at every merged round; leave measured_rounds out")
        return self

    @property
    def split_rule(self) -> SplitRule:
        if self.merged_rounds == "auto":
            return StableRanking(num_rounds=self.window, min_correlation=self.min_correlation)
        return FixedRound(num_rounds=self.merged_rounds)


class MAS(MeasuringTraining):
    """Merged, split, and open for new tasks."""

    name = "mas"
    title = "MAS"
    options_type: ClassVar[type[Options]] = MASOptions

    def set_up(self, setting: Setting) -> None:
        options: MASOptions = self.options
        self._affinity: Affinity | None = None  # that the present groups were chosen by
        self._trials: list[tuple[Affinity, ...]] = []
        self._waiting = dict(options.new_tasks)
        super().set_up(setting)
        merged, rounds = options.merged_rounds, setting.rounds
        if isinstance(merged, int) and not 1 <= merged < rounds:
            raise ValueError(
                f"merged_rounds is {merged} and the run has {rounds} rounds; split after 1 to {rounds - 1}"
            )
        if options.num_groups > len(self.phase.groups[0]):
            raise ValueError(f"{options.num_groups} groups of {len(self.phase.groups[0])} tasks; give at most as many")

    def first_phase(self) -> Phase:
        tasks = self.spec.tasks
        if unknown := [task for task in self._waiting if task not in tasks]:
            raise ValueError(f"new_tasks names {unknown[0]!r}; the data have the tasks {', '.join(tasks)}")
        merged = tuple(task for task in tasks if task not in self._waiting)
        if not merged:
            raise ValueError("all tasks are in new_tasks; leave some to begin with")
        return Phase(groups=(merged,), schedule_from=0, schedule_rounds=self.setting.rounds)

    def measures(self, round: int) -> bool:
        if self._affinity is not None:
            return self._on_trial is not None
        return self.options.measured_rounds is None or round < self.options.measured_rounds

    async def next_phase(self, context: RoundContext) -> Phase | None:
        done = context.round + 1
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
        chosen = decision.chosen.groups
        if self.options.partition == "random":
            sizes = [len(group) for group in chosen]
            return random_groups(decision.affinity.tasks, sizes, generator(self.setting.seed, "random groups"))
        if self.options.partition == "worst":
            return worst_exact_x(decision.affinity, len(chosen)).groups
        return chosen

    # -- new tasks -----------------------------------------------------------------------------------------------

    @property
    def _on_trial(self) -> str | None:
        """The task that all groups are trying."""
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


def widened(affinity: Affinity, newcomer: str, tried: list[Affinity]) -> Affinity:
    """The matrix with the newcomer's row and column, each entry from the group in which it was tried."""
    values: Mapping[tuple[str, str], float] = {
        (source, recipient): value
        for matrix in [*tried, affinity]
        for source, row in zip(matrix.tasks, matrix.values, strict=True)
        for recipient, value in zip(matrix.tasks, row, strict=True)
    }
    tasks = (*affinity.tasks, newcomer)
    return Affinity(tasks=tasks, values=tuple(tuple(values[source, other] for other in tasks) for source in tasks))


def _scored(groups: Groups, score: float) -> dict[str, Any]:
    return {"groups": groups, "score": score}
