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
from typing import Any, ClassVar

from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import RoundContext
from raysplit.algorithms.mas.mas_options import MASOptions
from raysplit.algorithms.mas.measuring import MeasuringTraining, plain_affinity
from raysplit.algorithms.mas.phase import Phase, tasks_of
from raysplit.algorithms.mas.task_owners import refuse_apart
from raysplit.algorithms.setting import Options, Setting
from raysplit.algorithms.unused import RunOutline
from raysplit.models.dense.spec import MultiTaskSpec
from raysplit.schedulers.grouping.known import Measured, affinities_of, mean_known, pairs_shown, unknown_pairs
from raysplit.schedulers.grouping.scores import (
    Affinity,
    Groups,
    join,
    partition_score,
    random_groups,
    widened,
    worst_exact_x,
)
from raysplit.schedulers.grouping.when import SplitDecision, decide, reason_to_split
from raysplit.seeding import generator

logger = logging.getLogger(__name__)


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
        self._affinity: Measured | None = None  # what was known when the present groups were chosen
        self._trials: list[tuple[Measured, ...]] = []
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
        self._require_pairs()

    def _require_pairs(self) -> None:
        """Raise ``ValueError`` where groups are chosen by affinities that nobody measures."""
        options, rounds = self.options, self.setting.rounds
        is_auto = options.merged_rounds == "auto"
        if options.merged_rounds and (is_auto or options.new_tasks or not options.named_groups):
            merged = rounds if is_auto else options.merged_rounds
            way_out = "name the groups in algorithm.partition, with a number as merged_rounds and without new_tasks"
            window = range(
                options.measured_from, min(merged, options.measured_from + (options.measured_rounds or merged))
            )
            self.require_pairs(window, "groups are chosen by it", way_out)
            refuse_apart(self.having.apart(self.spec.tasks), "a new task joins a group by it", way_out)

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

    @property
    def _is_merged(self) -> bool:
        """Whether the tasks are one group until the split; never where a run begins with its groups."""
        return self._affinity is None and self.options.merged_rounds != 0

    @property
    def _waits_for(self) -> list[tuple[str, str]]:
        """The pairs of tasks whose affinity is still to be measured before groups can be chosen by it."""
        if self.options.named_groups or self.having.all_have_all:
            return []
        return unknown_pairs(mean_known(self.history, self.phase.groups[0]))

    def models_of_groups(self) -> dict[tuple[str, ...], MultiTaskSpec]:
        models = {}
        for label, options in self.options.group_models.items():
            (tasks,) = [group for group in self._named(self.spec.tasks) if set(group) == set(tasks_of(label))]
            try:
                models[tasks] = self.spec.of(tasks).changed(options)
                models[tasks].require_decoders()
            except (ValueError, TypeError) as error:
                raise ValueError(f"algorithm.group_models.{label}: {error}") from error
        return models

    def learners(self) -> list[PartRecipe]:
        if not self.own_models:
            return super().learners()
        return [self.group_recipe(group) for group in self._named(self.spec.tasks)]

    def measures(self, round: int) -> bool:
        if not self._is_merged:
            return self._on_trial is not None
        return super().measures(round) or (round >= self.options.measured_from and bool(self._waits_for))

    async def next_phase(self, context: RoundContext) -> Phase | None:
        done = context.round + 1
        if self._is_merged:
            if self.measures(context.round):
                self.history += await self.collect(context)
            return self._split(done)
        if self._on_trial is not None:
            self._trials.append(await self.collect(context))
            return self._admit(self._on_trial) if len(self._trials) >= self.options.trial_rounds else None
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
        self._affinity = state["affinity"] and affinities_of(**state["affinity"])
        self._trials = [tuple(affinities_of(**affinity) for affinity in trial) for trial in state["trials"]]
        self._waiting = dict(state["waiting"])

    # -- the split -----------------------------------------------------------------------------------------------

    def _split(self, done: int) -> Phase | None:
        options, rounds = self.options, self.setting.rounds
        rule, num_groups = options.split_rule, options.num_groups
        if (reason := reason_to_split(rule, self.history, done)) is None or done >= rounds:
            return None
        if waiting := self._waits_for:
            logger.warning("%s, and the split waits: nobody has measured %s yet", reason, pairs_shown(waiting))
            return None
        known = mean_known(self.history, self.phase.groups[0])
        best: dict[int, dict[str, Any]] = {}
        if isinstance(known, Affinity):
            decision = decide(rule, self.history, num_groups=num_groups, mode=options.mode, num_rounds=done)
            assert decision is not None
            groups = self._groups_of(decision)
            best = {len(option.groups): _scored(option.groups, option.score) for option in decision.alternatives}
        else:
            groups = self._named(known.tasks)
        self._affinity = known
        score = partition_score(known, groups) if isinstance(known, Affinity) else None
        self.decide(reason, round=done, partition=options.partition, groups=groups, score=score, best=best)
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
        if self._affinity is None:
            return None
        strangers = [task for task in self.phase.groups[0] if task not in self._affinity.tasks]
        return strangers[0] if strangers else None

    def _try_newcomer(self, done: int) -> Phase | None:
        ready = [task for task, round in self._waiting.items() if round <= done]
        if not ready or done + self.options.trial_rounds >= self.setting.rounds:
            return None
        del self._waiting[ready[0]]
        self._trials = []
        return self._regrouped(tuple((*group, ready[0]) for group in self.phase.groups))

    def _admit(self, newcomer: str) -> Phase | None:
        assert isinstance(self._affinity, Affinity)
        groups = tuple(tuple(task for task in group if task != newcomer) for group in self.phase.groups)
        tried = [mean_known(rounds, rounds[0].tasks) for rounds in zip(*self._trials, strict=True)]
        if waiting := [pair for matrix in tried for pair in unknown_pairs(matrix) if newcomer in pair]:
            logger.warning("the trial of %s goes on: nobody has measured %s yet", newcomer, pairs_shown(waiting))
            return None
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
