"""The base of all methods that train several tasks: FedAvg for each group of tasks, phase after phase, on one cluster.

Zhuang et al., "MAS: Towards Resource-Efficient Federated Multiple-Task Learning", ICCV 2023, arXiv 2307.11285. Groups
have aggregators of their own and come and go while the owners stay. They train side by side where the cluster has room
for copies of the owners' processes, and one after another where it has not, with the same result to the last bit:
a group's round depends on its own weights and on the owners' streams alone.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pydantic import field_validator

from raysplit.actors.data_owner import Program
from raysplit.actors.evaluator import Evaluation
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import OwnerReport, RoundContext
from raysplit.actors.verbs import EvaluatorHandle, Weights
from raysplit.algorithms.fedavg.fedavg import train_and_submit
from raysplit.algorithms.mas.costs import Ledger, watts_of
from raysplit.algorithms.mas.live_groups import LiveGroups
from raysplit.algorithms.mas.phase import Phase, TaskGroup, inherit, label_of, plain_phase
from raysplit.algorithms.setting import AGGREGATOR, Options, RoundReport, Setting, Team
from raysplit.cluster.contract import Promise, gather
from raysplit.models.dense.spec import MultiTaskSpec
from raysplit.models.spec import ModelSpec
from raysplit.schedulers.learning_rate import SCHEDULES

logger = logging.getLogger(__name__)


class GroupOptions(Options):
    """Options of every method that trains groups of tasks."""

    run_groups: Literal["auto", "concurrent", "in_turn"] = "auto"
    """``auto`` gives each group places of its own and runs all side by side where the cluster has room for that, and
    one after another at the owners' own places where it has not; ``concurrent`` runs them side by side at the owners'
    own places; ``in_turn`` one after another."""
    devices: tuple[str | float, ...] = ("d1",)
    """What owners compute on, dealt out in turn, for the account of energy: kinds of device whose power is known, or
    watts."""

    @field_validator("devices")
    @classmethod
    def _devices(cls, value: tuple[str | float, ...]) -> tuple[str | float, ...]:
        watts_of(["owner-0"] * len(value), value)
        if not value:
            raise ValueError("give one device at least, or its power in W")
        return value


class GroupTraining(LiveGroups):
    """A method says with which phase it begins and, after each round, whether another follows."""

    options_type: ClassVar[type[Options]] = GroupOptions

    def set_up(self, setting: Setting) -> None:
        options: GroupOptions = self.options
        super().set_up(setting)
        if not isinstance(setting.spec, MultiTaskSpec):
            raise ValueError(
                f"{self.name} trains a model with several tasks; set data.name to a set that has them, such as rooms, "
                "and model.name to mas"
            )
        self.spec: MultiTaskSpec = setting.spec
        self.ledger = Ledger(watts_of(list(setting.owners), options.devices))
        self.phase = self.first_phase()
        self.serving: dict[str, TaskGroup] = {}
        self.decisions: list[dict[str, Any]] = []
        self._entered: Phase | None = None

    # -- what a method decides -----------------------------------------------------------------------------------

    @abstractmethod
    def first_phase(self) -> Phase:
        """How the run begins."""

    async def next_phase(self, context: RoundContext) -> Phase | None:
        """What follows the round that is done; None to go on as it is."""
        return None

    def program(self, round: int) -> Program:
        """The owner's round."""
        return train_and_submit

    def learners(self) -> list[PartRecipe]:
        """The models that an owner trains at the same time at the most: those of the first groups, or of as many even
        groups as there are to be later."""
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
        return RoundReport(owners=_summed(reports), values={"num_groups": float(len(reports)), **values})

    async def _train(self, group: TaskGroup, context: RoundContext) -> tuple[OwnerReport, ...]:
        aggregator = group.aggregator
        await aggregator.begin(context)
        team, state = Team(peers={AGGREGATOR: self.handles[aggregator.name]}), aggregator.current()
        program = self.program(context.round)
        runs = [group.owners[name].train(group.recipe, program, team, context, state) for name in context.cohort]
        return tuple(await gather(*runs))

    # -- groups come and go --------------------------------------------------------------------------------------

    async def regroup(self, round: int) -> None:
        """Have the groups of the present phase, with what they inherit, and let others go."""
        phase, before = self.phase, self.groups
        self.groups = tuple(await self.open_groups([(tasks, round) for tasks in phase.groups]))
        for group in self.groups:
            await inherit(group, before, phase.inherit)
        candidates = (*self.kept, *before)
        self.kept = tuple(group for group in candidates if group.tasks in phase.keep)
        await self.close_groups([group for group in candidates if group not in self.kept])
        everybody = (*self.groups, *self.kept)
        self.serving = {task: next(g for g in everybody if task in g.tasks) for task in _tasks(everybody)}
        self._entered = phase
        how = "side by side" if self.side_by_side else "one after another"
        logger.info("round %d: groups %s, %s", round, [group.label for group in self.groups], how)

    # -- what came of it -----------------------------------------------------------------------------------------

    def models(self) -> dict[str, list[Promise[Weights]]]:
        served = self._served()
        if len(served) == 1:
            ((group, tasks),) = served
            return {"global": [group.aggregator.model_of(tasks)]}
        return {label_of(tasks): [group.aggregator.model_of(tasks)] for group, tasks in served}

    def spec_of(self, label: str) -> ModelSpec:
        (tasks,) = [tasks for _, tasks in self._served() if label in ("global", label_of(tasks))]
        return self.spec.of(tasks)

    def _served(self) -> list[tuple[TaskGroup, tuple[str, ...]]]:
        """Each group that serves tasks, with these."""
        everybody = (*self.groups, *self.kept)
        served = [(g, tuple(task for task in g.tasks if self.serving[task] is g)) for g in everybody]
        return [(group, tasks) for group, tasks in served if tasks]

    def candidates(self) -> tuple[TaskGroup, ...]:
        """The groups from which each task takes the best."""
        return (*self.groups, *self.kept)

    async def serve_best(self) -> None:
        """Where several groups have a task, let the one with the lowest validation loss serve it."""
        groups = self.candidates()
        losses = [await self.validation_losses(group) for group in groups]
        for task in self.serving:
            having = [(loss[task], number) for number, loss in enumerate(losses) if task in loss]
            self.serving[task] = groups[min(having)[1]]

    async def validation_losses(self, group: TaskGroup) -> dict[str, float]:
        """Mean loss of each task of a group on samples that are neither trained nor tested on."""
        if not self.setting.validators:
            raise ValueError(f"{self.name} chooses by validation losses and the data set has no validation samples")
        state = group.aggregator.current()
        asked: list[EvaluatorHandle] = [self.handles[party.name] for party in self.setting.validators]
        parts: list[Evaluation] = await gather(*[e.evaluate(state, spec=group.recipe.spec) for e in asked])
        total = parts[0]
        for part in parts[1:]:
            total += part
        return total.task_losses

    def decide(self, reason: str, **content: Any) -> None:
        """Log a decision with its reason and scores, and keep it for the summary."""
        self.decisions.append({"reason": reason, **content})
        logger.info("decision: %s", self.decisions[-1])

    # -- what outlives a round -----------------------------------------------------------------------------------

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
        there = {group.key: group for group in (*self.groups, *self.kept)}
        self.serving = {task: there[key] for task, key in state["serving"].items()}
        self.phase = Phase(**state["phase"])
        self._entered = self.phase if state["has_entered"] else None
        self.decisions = list(state["decisions"])
        self.ledger.have(state["charges"])

    def tables(self) -> dict[str, pa.Table]:
        return {"charges.parquet": self.ledger.table()}

    def summary(self) -> dict[str, Any]:
        groups = [list(tasks) for _, tasks in self._served()]
        return {"groups": groups, "decisions": self.decisions, "spent": self.ledger.summary()}


def _tasks(groups: Sequence[TaskGroup]) -> tuple[str, ...]:
    """All tasks of these groups, as they first appear."""
    return tuple(dict.fromkeys(task for group in groups for task in group.tasks))


def _summed(reports: Sequence[tuple[OwnerReport, ...]]) -> tuple[OwnerReport, ...]:
    """One report per owner: the groups' losses added up, on the same samples."""
    return tuple(
        replace(own[0], loss=sum(r.loss for r in own), num_steps=sum(r.num_steps for r in own), values=())
        for own in zip(*reports, strict=True)
    )
