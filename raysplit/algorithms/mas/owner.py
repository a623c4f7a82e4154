"""An owner that trains for several groups of tasks: one learner for each group, all on the same samples.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285. The samples are held once. A learner's random streams are the
owner's, so two groups see the same batches in the same round, and which groups train side by side leaves no trace.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Protocol

from torch import Tensor

from raysplit.actors.data_owner import Batch, DataOwner, LocalTraining, Program
from raysplit.actors.parts.part import on_device
from raysplit.actors.parts.stage import PartRecipe
from raysplit.actors.records import NonFiniteLoss, OwnerReport, RoundContext, StepId
from raysplit.actors.verbs import PartyHandle, Weights
from raysplit.algorithms.mas.affinity import AffinityRule, measure
from raysplit.algorithms.mas.metered_device import MeteredDevice, processor_time
from raysplit.algorithms.mas.phase import label_of
from raysplit.cluster.contract import Given, Promise
from raysplit.cluster.device import Device, Inline
from raysplit.data.samples import Samples
from raysplit.data.transforms import Transform
from raysplit.models.dense import gradnorm as mas_gradnorm
from raysplit.models.dense.losses import TASKS
from raysplit.models.dense.net import MultiTaskModel
from raysplit.models.dense.spec import MultiTaskSpec
from raysplit.schedulers.grouping.scores import Affinity

COMPUTE_S, AFFINITY_S = "compute_s", "affinity_s"
"""What a report of a multi-task owner tells beside the loss: seconds of training, and of measuring affinities."""


class GroupLearner(DataOwner):
    """Trains the model of one group of tasks on the owner's samples."""

    def __init__(self, *, recipe: PartRecipe, device: MeteredDevice, **arguments: Any) -> None:
        super().__init__(recipes=(recipe,), device=device, **arguments)
        self._recipe = recipe
        self._metered = device
        model = self.first.part.module
        assert isinstance(model, MultiTaskModel)
        self.model = model
        self._losses = {task: TASKS[task].loss for task in model.tasks}
        self._balance = mas_gradnorm.start(model.tasks)

    async def learn(
        self, program: Program, team: Any, context: RoundContext, state: Mapping[str, Tensor]
    ) -> OwnerReport:
        """A round, reported with the seconds that it took."""
        self._metered.seconds.clear()
        report = await self.run_round(program, team, context, state)
        seconds = self._metered.seconds
        measuring = float(seconds["affinity"])
        return replace(report, values=((COMPUTE_S, seconds.total() - measuring), (AFFINITY_S, measuring)))

    async def state_dict(self) -> dict[str, Any]:
        """What this learner goes on from: its parts, where they outlive a round, and GradNorm's weights."""
        keeps_parts = not self._training.restart_optimizer or self._recipe.buffers == "local"
        parts = await super().state_dict() if keeps_parts else {}
        return {**parts, "balance": asdict(self._balance)}

    async def load_state_dict(self, state: Mapping[str, Any]) -> None:
        await super().load_state_dict(state)
        if "balance" in state:
            self._balance = mas_gradnorm.GradNormState(**state["balance"])

    async def measure_affinity(self, step_id: StepId, batch: Batch, rule: AffinityRule, lr_scale: float) -> Affinity:
        """Look ahead from the present weights on this batch; training goes on as if nothing had been measured."""
        optimizer = self._recipe.optimizer

        def look_ahead() -> Affinity:
            self.model.train()
            return measure(
                self.model,
                on_device(batch.x, self._recipe.device),
                on_device(batch.y, self._recipe.device),
                self._losses,
                lr=optimizer.lr * lr_scale,
                weight_decay=optimizer.options.get("weight_decay", 0.0),
                normalise_by_lr=rule.normalise_by_lr,
                freeze_running_statistics=rule.freeze_running_statistics,
            )

        try:
            measured: Affinity = await self.first.compute("affinity", step_id, look_ahead)
        except FloatingPointError as error:
            raise NonFiniteLoss(step_id.owner, step_id.round, step_id.step, math.nan) from error
        return measured

    async def train_batch_balanced(self, step_id: StepId, batch: Batch) -> None:
        """A step with the tasks weighted by GradNorm at the representation."""

        def backward() -> dict[str, float]:
            self.model.train()
            x, y = on_device(batch.x, self._recipe.device), on_device(batch.y, self._recipe.device)
            values, self._balance = mas_gradnorm.backward(self.model, x, y, self._losses, self._balance)
            return values

        losses: dict[str, float] = await self.first.compute("loss", step_id, backward)
        await self.first.update(step_id)
        self.note(step_id, sum(losses.values()), len(batch))


class MultiTaskOwnerHandle(PartyHandle, Protocol):
    """A `MultiTaskOwner` from afar."""

    def train(
        self, recipe: PartRecipe, program: Program, team: Any, context: RoundContext, state: Given[Weights]
    ) -> Promise[OwnerReport]: ...

    def progress(self) -> Promise[int | None]: ...

    def forget(self, recipes: Sequence[PartRecipe]) -> Promise[None]: ...


class MultiTaskOwner:
    """Holds the samples, and a learner for every group that has asked for a round.

    Args:
        owner: whose samples these are; names the random streams, also where a group has a copy of the party.
    """

    def __init__(
        self,
        *,
        name: str,
        owner: str,
        shard: Samples,
        transform: Transform,
        training: LocalTraining,
        device: Device | None = None,
    ) -> None:
        self.name = name
        self._held = {"name": owner, "shard": shard, "transform": transform, "training": training}
        self._device = device or Inline()
        self._learners: dict[str, GroupLearner] = {}  # by the label of the group
        self._loaded: dict[str, Mapping[str, Any]] = {}  # states of learners that have not been asked for since

    async def train(
        self, recipe: PartRecipe, program: Program, team: Any, context: RoundContext, state: Mapping[str, Tensor]
    ) -> OwnerReport:
        """A round for the group whose model the recipe describes, from ``state`` on."""
        learner = await self._learner(recipe)
        return await learner.learn(program, team, context, state)

    async def _learner(self, recipe: PartRecipe) -> GroupLearner:
        label = _label(recipe)
        if label not in self._learners:
            device = MeteredDevice(self._device, processor_time(recipe.device))
            learner = self._learners[label] = GroupLearner(recipe=recipe, device=device, **self._held)
            await learner.load_state_dict(self._loaded.pop(label, {}))
        return self._learners[label]

    async def state_dict(self) -> dict[str, Any]:
        """What the learners go on from after a round, by the labels of their groups."""
        return {**self._loaded, **{label: await learner.state_dict() for label, learner in self._learners.items()}}

    async def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Give up what is under way, and go on with learners of these states and no others."""
        for learner in self._learners.values():
            await learner.load_state_dict({})
        self._learners.clear()
        self._loaded = dict(state)

    def progress(self) -> int | None:
        """How many steps of a round are done, by the learner that has done most; None between rounds."""
        steps = [step for learner in self._learners.values() if (step := learner.progress()) is not None]
        return max(steps, default=None)

    def forget(self, recipes: Sequence[PartRecipe]) -> None:
        """Let the learners of these groups go."""
        for recipe in recipes:
            self._learners.pop(_label(recipe), None)
            self._loaded.pop(_label(recipe), None)


def _label(recipe: PartRecipe) -> str:
    """The label of the group of tasks whose model this is."""
    assert isinstance(recipe.spec, MultiTaskSpec)
    return label_of(recipe.spec.tasks)
