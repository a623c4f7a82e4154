"""The baselines of merge and split: all tasks in one model, each in its own, and two other ways to group them.

As in Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285. TAG: Fifty et al., "Efficiently Identifying Task Groupings",
NeurIPS 2021, arXiv 2109.04617. HOA: Standley et al., "Which Tasks Should Be Learned Together?", ICML 2020,
arXiv 1905.07553. GradNorm: Chen et al., ICML 2018, arXiv 1711.02257.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, ClassVar, Literal

from pydantic import Field

from raysplit.actors.data_owner import Program
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import RoundContext
from raysplit.algorithms.mas.groups import GroupOptions, GroupTraining
from raysplit.algorithms.mas.measuring import MeasuringOptions, MeasuringTraining
from raysplit.algorithms.mas.owner import GroupLearner
from raysplit.algorithms.mas.phase import Phase, TaskGroup
from raysplit.algorithms.setting import Options, Setting, Team
from raysplit.schedulers.grouping.known import all_known
from raysplit.schedulers.grouping.scores import Groups, PairLosses, hoa, overlap


async def train_balanced(owner: GroupLearner, team: Team, context: RoundContext) -> None:
    """Train with GradNorm at the representation (Chen et al., 2018, arXiv 1711.02257)."""
    for step_id, batch in owner.batches(context):
        await owner.train_batch_balanced(step_id, batch)
    await team.aggregator.submit(context, owner.name, owner.weights())


class AllInOneOptions(GroupOptions):
    """Options of all in one."""

    method: Literal["fedavg", "fedprox", "gradnorm"] = "fedavg"
    """Training of the model: ``fedavg``; ``fedprox`` adds FedProx's proximal term; ``gradnorm`` weights the tasks by
    GradNorm."""
    proximal_mu: float = Field(default=0.01, ge=0)
    """Weight of the proximal term, for ``fedprox``."""

    def idle(self) -> dict[str, str]:
        unread = [] if self.method == "fedprox" else self.changed("proximal_mu")
        return dict.fromkeys(unread, f"method is {self.method}")


class AllInOne(GroupTraining):
    """All in one: one model with all tasks."""

    name = "all_in_one"
    title = "All in one"
    options_type: ClassVar[type[Options]] = AllInOneOptions

    def first_phase(self) -> Phase:
        return Phase(groups=(self.spec.tasks,), schedule_from=0, schedule_rounds=self.setting.rounds)

    def program(self, round: int) -> Program:
        return train_balanced if self.options.method == "gradnorm" else super().program(round)

    def group_recipe(self, tasks: Sequence[str]) -> PartRecipe:
        mu = self.options.proximal_mu if self.options.method == "fedprox" else 0.0
        return self.recipe(0, spec=self.spec.of(tasks), proximal_mu=mu)


class OneByOne(GroupTraining):
    """One by one: a separate model for each task."""

    name = "one_by_one"
    title = "One by one"

    def first_phase(self) -> Phase:
        groups = tuple((task,) for task in self.spec.tasks)
        return Phase(groups=groups, schedule_from=0, schedule_rounds=self.setting.rounds)


class TAGOptions(MeasuringOptions):
    """Options of TAG."""

    num_groups: int = Field(default=2, ge=1)
    """Largest number of groups, which may overlap."""


class TAG(MeasuringTraining):
    """TAG: a merged run that measures affinities throughout, then each chosen group from scratch."""

    name = "tag"
    title = "TAG"
    options_type: ClassVar[type[Options]] = TAGOptions
    trainings = 2

    def set_up(self, setting: Setting) -> None:
        super().set_up(setting)
        self.require_tasks(self.options.num_groups, self.spec.tasks)
        self.require_pairs(
            range(self.options.measured_from, setting.rounds),
            "tag chooses groups by it",
            "name them with algorithm.name: mas",
        )

    def first_phase(self) -> Phase:
        return Phase(groups=(self.spec.tasks,), schedule_from=0, schedule_rounds=self.setting.rounds)

    def measures(self, round: int) -> bool:
        return round < self.setting.rounds and super().measures(round)

    async def next_phase(self, context: RoundContext) -> Phase | None:
        rounds, done = self.setting.rounds, context.round + 1
        if self.measures(context.round):
            self.history += await self.collect(context)
        if done == self.num_rounds:
            await self.serve_best()
        if done != rounds:
            return None
        chosen = overlap(all_known(self.history, self.spec.tasks), self.options.num_groups)
        self.decide(f"the merged run of {rounds} rounds is done", groups=chosen.groups, score=chosen.score)
        return Phase(groups=chosen.groups, schedule_from=rounds, schedule_rounds=rounds)


class HOAOptions(GroupOptions):
    """Options of HOA."""

    num_groups: int = Field(default=2, ge=1)
    """Largest number of groups, which may overlap."""


class HOA(GroupTraining):
    """HOA: every task alone and every pair, then the larger groups with the lowest predicted loss."""

    name = "hoa"
    title = "HOA"
    options_type: ClassVar[type[Options]] = HOAOptions
    trainings = 2

    _chosen: Groups = ()

    def set_up(self, setting: Setting) -> None:
        super().set_up(setting)
        self.require_tasks(self.options.num_groups, self.spec.tasks)

    @property
    def num_rounds(self) -> int:
        """The rounds of one training, or of two if a chosen group has not been trained yet."""
        nothing_new = bool(self._chosen) and all(len(group) <= 2 for group in self._chosen)
        return (1 if nothing_new else 2) * self.setting.rounds

    def first_phase(self) -> Phase:
        tasks = self.spec.tasks
        groups: Groups = (*((task,) for task in tasks), *combinations(tasks, 2))
        return Phase(groups=groups, schedule_from=0, schedule_rounds=self.setting.rounds)

    async def next_phase(self, context: RoundContext) -> Phase | None:
        rounds, done = self.setting.rounds, context.round + 1
        following = None
        if done == rounds:
            losses = await self._pair_losses()
            chosen = hoa(losses, self.options.num_groups)
            self._chosen = chosen.groups
            self.decide(
                "all tasks and pairs are trained", groups=chosen.groups, score=chosen.score, pair_losses=losses.values
            )
            larger = tuple(group for group in chosen.groups if len(group) > 2)
            if larger:
                small = tuple(group for group in chosen.groups if len(group) <= 2)
                following = Phase(groups=larger, schedule_from=rounds, schedule_rounds=rounds, keep=small)
        if done == self.num_rounds:
            await self.serve_best()
        return following

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "chosen": self._chosen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._chosen = state["chosen"]

    async def _pair_losses(self) -> PairLosses:
        losses = {group.tasks: await self.validation_losses(group) for group in self.groups}

        def loss(task: str, partner: str) -> float:
            (tasks,) = [tasks for tasks in losses if set(tasks) == {task, partner}]
            return losses[tasks][task]

        tasks = self.spec.tasks
        return PairLosses(tasks=tasks, values=tuple(tuple(loss(task, partner) for partner in tasks) for task in tasks))

    def candidates(self) -> tuple[TaskGroup, ...]:
        """The chosen groups, once they are known; all groups before."""
        groups = super().candidates()
        return tuple(group for group in groups if group.tasks in self._chosen) if self._chosen else groups
