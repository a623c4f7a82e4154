"""A compute node: one replica of its part per owner, or one part that all owners share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn

from raysplit.actors.aggregation import UpdateRules
from raysplit.actors.barrier import Barrier, Turns
from raysplit.actors.expecting.parties import SHARED, ExpectsAtNode
from raysplit.actors.in_round import InRound
from raysplit.actors.parts.joint_step import JointRule, joint_gradients
from raysplit.actors.parts.leaves import Tensors
from raysplit.actors.parts.losses import resolve_loss
from raysplit.actors.parts.stage import PartRecipe, Stage
from raysplit.actors.records import RoundContext, StaleCall, StepId
from raysplit.actors.steps.exchange import NormExchange
from raysplit.cluster.device import Device, Inline
from raysplit.guards.noise.labels import FlippedCrossEntropy
from raysplit.models.adapters.gap import gap_terms
from raysplit.tasks import Task

Copies = Literal["per_owner", "shared"]


class ComputeNode(NormExchange, ExpectsAtNode, InRound):
    """A party that trains a part of the model and holds no data. `NodeHandle` describes its calls.

    Args:
        recipe: the part that this node trains.
        copies: one replica per owner (SplitFed V1, MP-SL), or one shared part (SplitNN, SplitFed V2, MiniBatch-SFL).
        loss: name or import path of the loss, or the task, for the node that holds the last part.
        restart_optimizer: whether to forget momentum at the start of each round.
        joint: how a joint step is computed.
        rules: rules that refuse replicas, and combine the others to an average.
    """

    def __init__(
        self,
        *,
        name: str,
        recipe: PartRecipe,
        copies: Copies = "shared",
        loss: str | Task | FlippedCrossEntropy = "cross_entropy",
        restart_optimizer: bool = False,
        joint: JointRule | None = None,
        rules: UpdateRules | None = None,
        device: Device | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        recipe.spec.require_base()
        self._recipe = recipe
        self._copies = copies
        self._loss = resolve_loss(loss)
        self._restart_optimizer = restart_optimizer
        self._joint = joint or JointRule()
        self._rules = rules or UpdateRules()
        self._device = device or Inline()
        self._stages: dict[str, Stage] = {}
        self._trained: set[str] = set()  # owners whose replicas have been trained since the last average
        self._spare: list[nn.Module] = []  # modules of replicas that were given up, for those to come
        self._state: dict[str, Tensor] | None = None  # weights of a new replica
        self._barrier = Barrier()
        self._turns = Turns()
        self._updates: dict[str, asyncio.Future[None]] = {}
        self._num_steps = 0

    # -- round ---------------------------------------------------------------------------------------------------

    def begin(self, context: RoundContext) -> None:
        """Begin a round or its next attempt; from now on calls of any other raise `StaleCall`."""
        self._abandon(f"round {context.round}, attempt {context.attempt} begins at {self.name}")
        self._give_up_replicas(context)
        self._context = context
        for stage in self._stages.values():
            self._open(stage, context)

    def _give_up_replicas(self, context: RoundContext) -> None:
        """Give up the replicas of owners outside the cohort; a new one is made from the average when it is needed."""
        absent = [owner for owner in self._stages if owner not in context and self._is_average(owner)]
        num_new = sum(owner not in self._stages for owner in self._served(context.cohort))
        for owner in absent:
            part = self._stages.pop(owner).part
            part.abandon()
            self._spare.append(part.module)
        del self._spare[num_new:]

    def _is_average(self, owner: str) -> bool:
        """Whether the owner's replica holds nothing beyond the average of all, between two rounds."""
        if self._copies == "shared" or self._recipe.buffers == "local" or owner in self._trained:
            return False
        return self._restart_optimizer or not self._stages[owner].part.has_optimizer_state

    def _abandon(self, reason: str) -> None:
        self._context = None
        self._num_steps = 0
        self._forget_batches()
        self._updates.clear()
        self._waiting.clear()
        self._barrier.reset(reason)
        self._turns.reset()

    def _open(self, stage: Stage, context: RoundContext) -> None:
        if self._restart_optimizer:
            stage.part.restart_optimizer()
        stage.part.scale_learning_rate(context.lr_scale)

    # -- a replica of this part per owner ------------------------------------------------------------------------

    async def forward(self, step_id: StepId, z: Tensors) -> Tensors:
        """Run the owner's replica forward, and return its output for the next party."""
        self._enter(step_id)
        await self._updated(step_id.owner)
        return await self._stage(step_id.owner).forward(step_id, z)

    async def backward(self, step_id: StepId, g: Tensors) -> Tensors:
        """Run the owner's replica backward, and return the gradient of its inputs."""
        self._check_call(step_id)
        if self._in_flight.pop(step_id.owner, None) != step_id:
            raise StaleCall(f"{self.name} has no forward pass of {step_id} to go back through; call forward first")
        stage = self._stage(step_id.owner)
        self._trained.add(step_id.owner)
        g = await stage.backward(step_id, g)
        # The gradient leaves first and the update runs afterwards, so that the next party need not wait for it.
        if not self._awaits_factor(step_id, stage):
            self._updates[step_id.owner] = asyncio.ensure_future(stage.update(step_id))
        return g

    async def _updated(self, owner: str) -> None:
        update = self._updates.pop(owner, None)
        if update is not None:
            await update

    async def loss_gradient(self, step_id: StepId, z: Tensors, y: Any) -> tuple[float, Tensors]:
        """Train the owner's replica of the last part for one step; return the loss and the gradient of ``z``."""
        with self._under_way(step_id):
            stage = self._stage(step_id.owner)
            self._trained.add(step_id.owner)
            loss, g = await stage.loss_gradient(step_id, z, y, self._loss)
            if not self._awaits_factor(step_id, stage):
                await stage.update(step_id)
        self._num_steps += step_id.is_last
        return loss, g

    async def average(self, context: RoundContext, owner: str) -> None:
        """Wait for the whole cohort, and average its replicas in place: no weights leave the node."""

        async def work(_: list[Any]) -> None:
            for name in served:
                await self._updated(name)
            await self.load_weights(await self._mean_of_replicas(context, served))

        context = self._speaks_for(owner, self._check(context), context)  # the present one, not the caller's
        served = self._served(context.cohort)
        await self._barrier.meet(("average", context.round, context.attempt), owner, None, served, work)

    async def _mean_of_replicas(self, context: RoundContext, owners: tuple[str, ...]) -> dict[str, Tensor]:
        states = [self._stage(name).part.weights() for name in owners]
        before = await self.weights()
        for name, state in zip(owners, states, strict=True):
            self._rules.check(name, context.round, state, before)
        mean = self._rules.combine(states, context.weights, [context.number(name) for name in owners])
        self._lora_gap = gap_terms(states, context.weights, mean)
        return mean

    def _served(self, owners: tuple[str, ...]) -> tuple[str, ...]:
        """Select the owners for which this node works: all of them."""
        return owners

    # -- one part shared by all ----------------------------------------------------------------------------------

    async def shared_step(self, step_id: StepId, turn: int, z: Tensors, y: Any) -> tuple[float, Tensors]:
        """Train the shared part for one step on one owner's batch, after all earlier turns."""
        with self._under_way(step_id):
            await self._comes(self._turns, turn, step_id)
            stage = self._stage(SHARED)
            loss, g = await stage.loss_gradient(step_id, z, y, self._loss)
            if not self._awaits_factor(step_id, stage, in_turn=True):
                await stage.update(step_id)
                self._turns.passed()
        self._num_steps += step_id.is_last
        return loss, g

    async def joint_step(self, step_id: StepId, present: tuple[str, ...], z: Tensors, y: Any) -> tuple[float, Tensors]:
        """Train the shared part for one step on the batches of all ``present`` owners, which wait for one another.

        Steps run in order, even if owners that were absent from one arrive early at the next.
        """

        async def work(brought: list[tuple[StepId, Tensors, Any]]) -> dict[str, tuple[float, Tensors]]:
            return await self._joint_work(brought)

        with self._under_way(step_id):
            key = ("joint", step_id.round, step_id.attempt, step_id.step)
            await self._comes(self._turns, step_id.step, step_id)
            met = self._barrier.meet(key, step_id.owner, (step_id, z, y), self._served(present), work)
            outcome: dict[str, tuple[float, Tensors]] = await met
        return outcome[step_id.owner]

    async def _joint_work(self, brought: list[tuple[StepId, Tensors, Any]]) -> dict[str, tuple[float, Tensors]]:
        step_ids = [step_id for step_id, _, _ in brought]
        stage = self._stage(SHARED)
        stream = step_ids[0].stream(self._recipe.seed, "dropout")
        zs, ys = [z for _, z, _ in brought], [y for _, _, y in brought]
        assert self._context is not None
        per_row = [self._context.row_weight(step_id.owner) for step_id in step_ids]
        computing = partial(
            joint_gradients, stage.part, zs, ys, self._loss, self._joint, stream=stream, row_weights=per_row
        )
        result = await stage.compute("loss", step_ids[0], computing, with_loss=self._loss, batches=len(zs))
        result.require_finite(step_ids, zs)
        await self._combine(step_ids[0], stage, result.mass)
        await stage.update(step_ids[0])
        self._num_steps += 1
        self._turns.passed()
        owners = [step_id.owner for step_id in step_ids]
        return dict(zip(owners, zip(result.losses, result.gradients, strict=True), strict=True))

    async def _combine(self, step_id: StepId, stage: Stage, mass: float) -> None:
        """Complete the joint gradient; here it is complete, as all rows of the step are at this node.

        ``mass`` is the number of counted elements of this node, each with the weight of its row.
        """

    def absent(self) -> list[str]:
        """Names of the owners for which others wait here."""
        return self._barrier.absent()

    def num_steps(self) -> int:
        """Optimizer steps of the last part in this round: of the shared part, or of all replicas together."""
        return self._num_steps

    # -- state ---------------------------------------------------------------------------------------------------

    async def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate, which the schedule still multiplies."""
        self._recipe = replace(self._recipe, optimizer=replace(self._recipe.optimizer, lr=rate))
        for stage in self._stages.values():
            stage.part.set_learning_rate(rate)

    async def predict(self, z: Tensors, owner: str = SHARED) -> Tensors:
        """Run the shared part, or an owner's replica, forward in eval mode."""
        return self._stage(owner).part.predict(z)

    async def weights(self) -> dict[str, Tensor]:
        """Return the weights of the shared part, or of the last average of the replicas."""
        if self._copies == "shared":
            return self._stage(SHARED).part.weights()
        return dict(self._state) if self._state is not None else self._recipe.build(self._device).part.weights()

    async def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Set the weights of the shared part, or of all present and future replicas."""
        self._state = {key: value.clone() for key, value in state.items()}
        self._trained.clear()
        for stage in self._stages.values():
            stage.load_weights(self._state)

    async def recut(self, recipe: PartRecipe) -> None:
        """Abort what is under way, and replace the part by another with its initial weights."""
        self._abandon(f"{self.name} gets another part")
        self._recipe, self._state = recipe, None
        self._stages.clear()
        self._spare.clear()

    async def state_dict(self) -> dict[str, Any]:
        """Return the state to resume from: the average, and what replicas or a shared part hold beyond it."""
        for owner in list(self._updates):
            await self._updated(owner)
        more = {owner: stage for owner, stage in self._stages.items() if not self._is_average(owner)}
        replicas = {owner: stage.part.state_dict() for owner, stage in more.items()}
        average = None if self._copies == "shared" and replicas else self._state
        return {"average": average, "replicas": replicas, "lr": self._recipe.optimizer.lr}

    async def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Abort what is under way and restore a `state_dict`."""
        self._abandon(f"{self.name} goes back to the last good round")
        self._recipe = replace(self._recipe, optimizer=replace(self._recipe.optimizer, lr=state["lr"]))
        average = state["average"]
        self._state = average and {key: value.clone() for key, value in average.items()}
        self._stages.clear()
        self._trained = set(state["replicas"])
        for owner, part in state["replicas"].items():
            self._stage(owner).part.load_state_dict(part)

    def _stage(self, owner: str) -> Stage:
        key = SHARED if self._copies == "shared" else owner
        if (found := self._stages.get(key)) is None:
            build = partial(self._recipe.build_in, self._spare.pop()) if self._spare else self._recipe.build
            found = self._stages[key] = build(self._device)
            if self._state is not None:
                found.load_weights(self._state)
            if self._context is not None:
                self._open(found, self._context)
        return found
