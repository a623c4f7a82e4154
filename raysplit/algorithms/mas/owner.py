"""An owner that trains for several groups of tasks: one learner for each group, all on the same samples.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285. The samples are stored once. All learners use the owner's random
streams, so groups see the same batches in a round, and results do not depend on which groups train concurrently. An
owner with some of a group's tasks holds the encoder and their decoders alone.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from raysplit.actors.data_owner import Batch, DataOwner, Program
from raysplit.actors.expecting.forms import part_weights
from raysplit.actors.parts.part import on_device
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import NonFiniteLoss, OwnerReport, RoundContext, StepId
from raysplit.actors.verbs import PartyHandle, Weights
from raysplit.algorithms.mas.affinity import AffinityRule, correlate_losses, measure, measure_gradients
from raysplit.algorithms.mas.phase import label_of
from raysplit.algorithms.mas.task_owners import measures
from raysplit.cluster.arriving.forms import ANYTHING, Expected
from raysplit.cluster.contract import Given, Promise
from raysplit.cluster.device import Device, Inline, Work, WorkKind
from raysplit.data.batches import LocalTraining
from raysplit.data.samples import Samples
from raysplit.data.transforms import Transform
from raysplit.models.dense import gradnorm as mas_gradnorm
from raysplit.models.dense.losses import TASKS
from raysplit.models.dense.net import MultiTaskModel
from raysplit.models.dense.spec import MultiTaskSpec
from raysplit.schedulers.grouping.scores import Affinity

COMPUTE_S, AFFINITY_S = "compute_s", "affinity_s"
"""Names of the values in a multi-task owner's report: seconds of training, and of measuring affinities."""


def processor_time(torch_device: str) -> Callable[[], float]:
    """Return a clock in seconds that does not count waiting: this thread's CPU time, or the time of CUDA's queue."""
    return time.thread_time if torch_device == "cpu" else _cuda_time


def _cuda_time() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


class MeteredDevice:
    """A device that passes work on to another and adds up the seconds by kind of work."""

    def __init__(self, device: Device, clock: Callable[[], float]) -> None:
        self.seconds: Counter[WorkKind] = Counter()
        self._device = device
        self._clock = clock

    async def run(self, work: Work, compute: Callable[[], Any]) -> Any:
        def timed() -> Any:
            started = self._clock()
            result = compute()
            self.seconds[work.kind] += self._clock() - started  # type: ignore[assignment]
            return result

        return await self._device.run(work, timed)


class GroupLearner(DataOwner):
    """An owner's learner for one group of tasks.

    Args:
        recipe: the model of those of the group's tasks that the owner has.
        measures: whether it measures affinities.
    """

    def __init__(self, *, recipe: PartRecipe, device: MeteredDevice, measures: bool = True, **arguments: Any) -> None:
        super().__init__(recipes=(recipe,), device=device, **arguments)
        self._recipe = recipe
        self._metered = device
        self.measures = measures
        model = self.first.part.module
        assert isinstance(model, MultiTaskModel)
        self.model = model
        self._losses = {task: TASKS[task].mean_loss for task in model.tasks}
        self._balance = mas_gradnorm.start(model.tasks)

    async def learn(
        self, program: Program, team: Any, context: RoundContext, state: Mapping[str, Tensor]
    ) -> OwnerReport:
        """Run the owner's round, and add the seconds that it took to the report."""
        self._metered.seconds.clear()
        report = await self.run_round(program, team, context, state)
        seconds = self._metered.seconds
        measuring = float(seconds["affinity"])
        return replace(report, values=((COMPUTE_S, seconds.total() - measuring), (AFFINITY_S, measuring)))

    async def state_dict(self) -> dict[str, Any]:
        """Return GradNorm's weights and, if the aggregator's average does not replace all of them, the parts."""
        keeps_parts = not self._training.restart_optimizer or self._recipe.buffers == "local"
        parts = await super().state_dict() if keeps_parts else {}
        return {**parts, "balance": asdict(self._balance)}

    async def load_state_dict(self, state: Mapping[str, Any]) -> None:
        await super().load_state_dict(state)
        if "balance" in state:
            self._balance = mas_gradnorm.GradNormState(**state["balance"])

    async def measure_affinity(self, step_id: StepId, batch: Batch, rule: AffinityRule, lr_scale: float) -> Affinity:
        """Measure affinities at the present weights on this batch, without an effect on training."""
        optimizer = self._recipe.optimizer

        def look_ahead() -> Affinity:
            self.model.train()
            x, y = (on_device(values, self._recipe.device) for values in (batch.x, batch.y))
            decay = optimizer.options.get("weight_decay", 0.0)
            if rule.by == "loss_correlation":
                return correlate_losses(self.model, x, y, self._losses)
            if rule.by != "lookahead":
                cosine = rule.by == "cosine"
                return measure_gradients(self.model, x, y, self._losses, weight_decay=decay, cosine=cosine)
            return measure(
                self.model,
                x,
                y,
                self._losses,
                lr=optimizer.lr * lr_scale,
                weight_decay=decay,
                normalise_by_lr=rule.normalise_by_lr,
                freeze_running_statistics=rule.freeze_running_statistics,
            )

        try:
            measured: Affinity = await self.first.compute("affinity", step_id, look_ahead)
        except FloatingPointError as error:
            raise NonFiniteLoss(step_id.owner, step_id.round, step_id.step, math.nan) from error
        return measured

    async def train_batch_balanced(self, step_id: StepId, batch: Batch) -> None:
        """Train one step with the tasks weighted by GradNorm at the representation."""

        def backward() -> dict[str, float]:
            self.model.train()
            x, y = on_device(batch.x, self._recipe.device), on_device(batch.y, self._recipe.device)
            values, self._balance = mas_gradnorm.backward(self.model, x, y, self._losses, self._balance)
            return values

        losses: dict[str, float] = await self.first.compute("loss", step_id, backward)
        await self.first.update(step_id)
        self.note(step_id, sum(losses.values()), len(batch))


class MultiTaskOwnerHandle(PartyHandle, Protocol):
    """The handle of a `MultiTaskOwner`."""

    def train(
        self, recipe: PartRecipe, program: Program, team: Any, context: RoundContext, state: Given[Weights]
    ) -> Promise[OwnerReport]: ...

    def progress(self) -> Promise[int | None]: ...

    def forget(self, recipes: Sequence[PartRecipe]) -> Promise[None]: ...


class MultiTaskOwner:
    """A data owner with a learner for every group for which it has trained.

    Args:
        name: the name of the party.
        owner: the name of the owner, which keys the random streams in all copies of the party.
        shard: the owner's training samples.
        transform: transform of the training samples.
        training: rules by which the owner goes through its data.
        tasks: the tasks that the owner has; None for all.
    """

    def __init__(
        self,
        *,
        name: str,
        owner: str,
        shard: Samples,
        transform: Transform,
        training: LocalTraining,
        tasks: Sequence[str] | None = None,
        device: Device | None = None,
    ) -> None:
        self.name = name
        self._tasks = tasks
        self._held = {"name": owner, "shard": shard, "transform": transform, "training": training}
        self._device = device or Inline()
        self._learners: dict[str, GroupLearner] = {}  # by the label of the group
        self._loaded: dict[str, Mapping[str, Any]] = {}  # restored states of learners that are not built yet

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Expect the weights of the group's model, at least those of the owner's tasks."""
        recipe = given.get("recipe")
        return part_weights(self._own(recipe)) if content == "weights" and recipe is not None else ANYTHING

    async def train(
        self, recipe: PartRecipe, program: Program, team: Any, context: RoundContext, state: Mapping[str, Tensor]
    ) -> OwnerReport:
        """Run a round from ``state`` for the group whose model the recipe describes, on the owner's tasks in it."""
        learner = await self._learner(recipe)
        return await learner.learn(program, team, context, state)

    async def _learner(self, recipe: PartRecipe) -> GroupLearner:
        label = _label(recipe)
        if label not in self._learners:
            device = MeteredDevice(self._device, processor_time(recipe.device))
            own = self._own(recipe)
            does = measures(_tasks(own), _tasks(recipe))
            learner = self._learners[label] = GroupLearner(recipe=own, device=device, measures=does, **self._held)
            await learner.load_state_dict(self._loaded.pop(label, {}))
        return self._learners[label]

    def _own(self, recipe: PartRecipe) -> PartRecipe:
        """Describe the model of those of a group's tasks that this owner has."""
        own = tuple(task for task in _tasks(recipe) if self._tasks is None or task in self._tasks)
        if own == _tasks(recipe):
            return recipe
        assert isinstance(recipe.spec, MultiTaskSpec)
        return replace(recipe, spec=recipe.spec.of(own))

    async def state_dict(self) -> dict[str, Any]:
        """Return the states of all learners by the labels of their groups."""
        return {**self._loaded, **{label: await learner.state_dict() for label, learner in self._learners.items()}}

    async def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Abort what is under way, and replace all learners by those of these states."""
        for learner in self._learners.values():
            await learner.load_state_dict({})
        self._learners.clear()
        self._loaded = dict(state)

    def largest_gradient(self) -> None:
        """Return None: nobody sends gradients to this owner."""

    def progress(self) -> int | None:
        """Return the steps done in the present round, by the learner with most; None between rounds."""
        steps = [step for learner in self._learners.values() if (step := learner.progress()) is not None]
        return max(steps, default=None)

    def forget(self, recipes: Sequence[PartRecipe]) -> None:
        """Remove the learners of these groups."""
        for recipe in recipes:
            self._learners.pop(_label(recipe), None)
            self._loaded.pop(_label(recipe), None)


def _label(recipe: PartRecipe) -> str:
    return label_of(_tasks(recipe))


def _tasks(recipe: PartRecipe) -> tuple[str, ...]:
    assert isinstance(recipe.spec, MultiTaskSpec)
    return recipe.spec.tasks
