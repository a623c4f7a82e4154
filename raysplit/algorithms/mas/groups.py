"""The base class of all methods that train several tasks: FedAvg for each group of tasks, phase after phase.

Zhuang et al., "MAS: Towards Resource-Efficient Federated Multiple-Task Learning", ICCV 2023, arXiv 2307.11285. Groups
have aggregators of their own and are opened and closed during a run, while the owners stay. They train concurrently if
the cluster has room for copies of the owners' processes, and one after another if not, with the same bits: a group's
round depends only on its own weights and on the owners' random streams. A group trains at the owners that have one of
its tasks (`task_owners`).
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_validator

from raysplit.actors.data_owner import Program
from raysplit.actors.evaluation import Evaluation
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import OwnerReport, RoundContext
from raysplit.actors.verbs import EvaluatorHandle, Weights
from raysplit.algorithms.fedavg.fedavg import train_and_submit
from raysplit.algorithms.mas.costs import Ledger, watts_of
from raysplit.algorithms.mas.live_groups import LiveGroups
from raysplit.algorithms.mas.phase import Phase, TaskGroup, all_tasks, inherit, label_of, plain_phase, tasks_of
from raysplit.algorithms.mas.task_owners import TaskOwners, united
from raysplit.algorithms.setting import AGGREGATOR, Options, RoundReport, Setting, Team
from raysplit.algorithms.unused import NO_COMMON_MODEL, NO_GUARDS, NO_NODE, OWN_PASSES, OWN_PHASES, WEIGHT_BY
from raysplit.cluster.contract import Promise, gather, original
from raysplit.models.dense.spec import MultiTaskSpec
from raysplit.models.spec import ModelSpec
from raysplit.schedulers.learning_rate import SCHEDULES

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

_WHOLE = "global"
"""The label of a model that serves all tasks."""


class GroupOptions(Options):
    """Options of methods that train groups of tasks."""

    run_groups: Literal["auto", "concurrent", "in_turn"] = "auto"
    """Execution of several groups: ``auto`` runs them concurrently, each in places of its own, if the cluster has room
    for that, and otherwise as ``in_turn``; ``concurrent`` runs them concurrently in the owners' own places;
    ``in_turn`` runs them one after another there."""
    devices: tuple[str | float, ...] = ("d1",)
    """Devices of the owners for the account of energy, assigned in turn: kinds of device whose power is known, or
    powers in W."""

    @field_validator("devices")
    @classmethod
    def _devices(cls, value: tuple[str | float, ...]) -> tuple[str | float, ...]:
        watts_of(["owner-0"] * len(value), value)
        if not value:
            raise ValueError("devices is empty; give at least one kind of device, or its power in W")
        return value


class GroupTraining(LiveGroups):
    """A method that trains groups; a subclass gives the first phase and, after each round, the next one if any."""

    options_type: ClassVar[type[Options]] = GroupOptions
    losses = ("task_sum",)
    unused = {**NO_NODE, **NO_COMMON_MODEL, **OWN_PASSES, **OWN_PHASES, **NO_GUARDS, WEIGHT_BY: "it weights by samples"}

    def set_up(self, setting: Setting) -> None:
        options: GroupOptions = self.options
        super().set_up(setting)
        if not isinstance(setting.spec, MultiTaskSpec):
            raise ValueError(
                f"{self.name} trains a model with several tasks, and the model is {setting.spec.name!r}; set data.name "
                "to a data set with dense tasks, such as rooms, and model.name to mas"
            )
        self.spec: MultiTaskSpec = setting.spec
        self.having = TaskOwners.of_setting(setting, self.spec.tasks)
        self.having.refuse_rules(setting.updates)
        self._cohorts: dict[tuple[str, ...], tuple[str, ...]] = {}  # as drawn for the groups of the present round
        self.phase = self.first_phase()
        self.own_models = self.models_of_groups()
        self.ledger = Ledger(watts_of(list(setting.owners), options.devices), self.having, self.own_models)
        self.serving: dict[str, TaskGroup] = {}
        self.decisions: list[dict[str, Any]] = []
        self._entered: Phase | None = None

    @staticmethod
    def require_tasks(num_groups: int, tasks: Sequence[str]) -> None:
        """Raise ``ValueError`` for more groups than there are tasks to divide."""
        if num_groups > len(tasks):
            raise ValueError(
                f"algorithm.num_groups is {num_groups}, and the tasks to divide are {', '.join(tasks)}; give at most "
                f"{len(tasks)}"
            )

    # -- decisions of a method -----------------------------------------------------------------------------------

    @abstractmethod
    def first_phase(self) -> Phase:
        """The phase with which the run begins."""

    def models_of_groups(self) -> dict[tuple[str, ...], MultiTaskSpec]:
        """The models of later groups that train another one than the run's, by their tasks."""
        return {}

    async def next_phase(self, context: RoundContext) -> Phase | None:
        """The phase that follows this round; None continues the present one."""
        return None

    def program(self, round: int) -> Program:
        """The owner's round of this method in the given round."""
        return train_and_submit

    def learners(self) -> list[PartRecipe]:
        """Describe the most models that an owner trains at once: those of the first groups, or of as many equal groups
        as there are later."""
        first = self.phase.groups
        tasks = tuple(dict.fromkeys(task for group in first for task in group))
        number = getattr(self.options, "num_groups", 1)
        later = tuple(tasks[i::number] for i in range(min(number, len(tasks))))
        return [self.group_recipe(group) for group in max(first, later, key=len)]

    # -- the coordinator's round ---------------------------------------------------------------------------------

    def lr_scale(self, round: int) -> float:
        schedule = SCHEDULES[self.setting.lr_schedule]
        return schedule(round - self.phase.schedule_from, self.phase.schedule_rounds)

    async def round(self, context: RoundContext) -> RoundReport:
        if self.phase is not self._entered:
            await self.regroup(context.round)
        if self.side_by_side:
            reports: list[tuple[OwnerReport, ...]] = await gather(*[self._train(g, context) for g in self.groups])
        else:
            reports = [await self._train(group, context) for group in self.groups]
        spent = [self.ledger.add(context.round, g.tasks, r) for g, r in zip(self.groups, reports, strict=True)]
        self.phase = await self.next_phase(context) or self.phase
        values = {key: sum(row[key] for row in spent) for key in spent[0]}
        return RoundReport(
            owners=_summed(context.cohort, reports), values={"num_groups": float(len(reports)), **values}
        )

    async def _train(self, group: TaskGroup, context: RoundContext) -> tuple[OwnerReport, ...]:
        context = self.context_of(group, context)
        if not context.cohort:
            logger.warning("round %d: nobody with a task of %s is left to train it", context.round + 1, group.label)
            return ()
        aggregator = group.aggregator
        await aggregator.begin(context)
        team, program = Team(peers={AGGREGATOR: self.handles[aggregator.name]}), self.program(context.round)
        own = {name: self.having.of(name, group.tasks) for name in context.cohort}
        states = {
            tasks: aggregator.current() if tasks == group.tasks else aggregator.model_of(tasks)
            for tasks in dict.fromkeys(own.values())
        }
        runs = [
            group.owners[name].train(group.recipe, program, team, context, states[tasks]) for name, tasks in own.items()
        ]
        return tuple(await gather(*runs))

    # -- cohorts of groups ---------------------------------------------------------------------------------------

    def drawn(self, round: int, owners: Sequence[str]) -> tuple[str, ...]:
        """Draw a cohort for each group among those with one of its tasks; return all who are in one of them."""
        if self.having.all_have_all:
            return super().drawn(round, owners)
        able = {tasks: set(self.having.owners(tasks)) for tasks in self.phase.groups}
        draw = super().drawn
        self._cohorts = {g: draw(round, [name for name in owners if name in names]) for g, names in able.items()}
        return united(owners, list(self._cohorts.values()))

    def context_of(self, group: TaskGroup, context: RoundContext) -> RoundContext:
        """The instruction of a round for a group, whose cohort are those of the round's who were drawn for it."""
        if self.having.all_have_all:
            return context
        drawn = self._cohorts.get(group.tasks, self.having.owners(group.tasks))
        cohort = [name for name in context.cohort if name in drawn]
        return self.context(context.round, cohort, lr_scale=context.lr_scale, attempt=context.attempt)

    # -- opening and closing groups ------------------------------------------------------------------------------

    async def regroup(self, round: int) -> None:
        """Open the groups of the present phase with what they inherit, and close the others."""
        phase, before = self.phase, self.groups
        self.groups = tuple(await self.open_groups([(tasks, round) for tasks in phase.groups]))
        for group in self.groups:
            if group.tasks not in self.own_models:
                await inherit(group, before, phase.inherit)
        candidates = (*self.kept, *before)
        self.kept = tuple(group for group in candidates if group.tasks in phase.keep)
        await self.close_groups([group for group in candidates if group not in self.kept])
        present = (*self.groups, *self.kept)
        self.serving = {task: next(g for g in present if task in g.tasks) for task in all_tasks(present)}
        self._entered = phase
        how = "side by side" if self.side_by_side else "one after another"
        logger.info("round %d: groups %s, %s", round, [group.label for group in self.groups], how)

    # -- results -------------------------------------------------------------------------------------------------

    def models(self) -> dict[str, list[Promise[Weights]]]:
        return {
            _WHOLE if set(tasks) == set(self.spec.tasks) else label_of(tasks): [group.aggregator.model_of(tasks)]
            for group, tasks in self._served()
        }

    def spec_of(self, label: str) -> ModelSpec:
        return self.group_recipe(self.spec.tasks if label == _WHOLE else tasks_of(label)).spec

    def _served(self) -> list[tuple[TaskGroup, tuple[str, ...]]]:
        """Pair each group that serves tasks with these tasks."""
        present = (*self.groups, *self.kept)
        served = [(g, tuple(task for task in g.tasks if self.serving[task] is g)) for g in present]
        return [(group, tasks) for group, tasks in served if tasks]

    def candidates(self) -> tuple[TaskGroup, ...]:
        """The groups among which the best one for each task is chosen."""
        return (*self.groups, *self.kept)

    async def serve_best(self) -> None:
        """Serve each task by the group with its lowest validation loss."""
        groups = self.candidates()
        losses = [await self.validation_losses(group) for group in groups]
        for task in self.serving:
            having = [(loss[task], number) for number, loss in enumerate(losses) if task in loss]
            self.serving[task] = groups[min(having)[1]]

    async def validation_losses(self, group: TaskGroup) -> dict[str, float]:
        """Compute the mean loss of each task of a group on the validation samples."""
        if not self.setting.validators:
            raise ValueError(
                f"{self.name} chooses groups by validation losses, and the data set has no validation samples; use one "
                f"that has them, such as rooms"
            )
        state = group.aggregator.current()
        asked: list[EvaluatorHandle] = [self.handles[party.name] for party in self.setting.validators]
        parts: list[Evaluation] = await gather(*[e.evaluate(state, spec=group.recipe.spec) for e in asked])
        total = parts[0]
        for part in parts[1:]:
            total += part
        losses = total.task_losses
        if missing := [task for task in group.tasks if task not in losses]:
            raise ValueError(
                f"no validation sample has a target for the task {missing[0]}, so {self.name} cannot choose groups; "
                f"give some a target, or leave the task out"
            )
        return losses

    def decide(self, reason: str, **content: Any) -> None:
        """Log a decision with its reason and scores, and store it for the summary."""
        self.decisions.append({"reason": reason, **content})
        logger.info("decision: %s", self.decisions[-1])

    # -- state ---------------------------------------------------------------------------------------------------

    def spec_of_party(self, name: str) -> ModelSpec:
        return self.own_models.get(tasks_of(original(name)), self.spec)

    def state_dict(self) -> dict[str, Any]:
        return {
            "groups": [(group.tasks, group.opened) for group in self.groups],
            "kept": [(group.tasks, group.opened) for group in self.kept],
            "serving": {task: group.key for task, group in self.serving.items()},
            "phase": plain_phase(self.phase),
            "has_entered": self._entered is self.phase,
            "decisions": list(self.decisions),
            "charges": self.ledger.rows(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        present = {group.key: group for group in (*self.groups, *self.kept)}
        self.serving = {task: present[key] for task, key in state["serving"].items()}
        self.phase = Phase(**state["phase"])
        self._entered = self.phase if state["has_entered"] else None
        self.decisions = list(state["decisions"])
        self.ledger.load_rows(state["charges"])

    def tables(self) -> dict[str, pa.Table]:
        return {"charges.parquet": self.ledger.table()}

    def summary(self) -> dict[str, Any]:
        groups = [list(tasks) for _, tasks in self._served()]
        return {"groups": groups, "decisions": self.decisions, "spent": self.ledger.summary()}


def _summed(cohort: Sequence[str], reports: Sequence[tuple[OwnerReport, ...]]) -> tuple[OwnerReport, ...]:
    """Merge the groups' reports into one per owner: losses add up, as all groups train on the same samples."""
    by_owner: dict[str, list[OwnerReport]] = {name: [] for name in cohort}
    for report in (report for of_group in reports for report in of_group):
        by_owner[report.owner].append(report)
    return tuple(
        replace(own[0], loss=sum(r.loss for r in own), num_steps=sum(r.num_steps for r in own), values=())
        for own in by_owner.values()
        if own
    )
