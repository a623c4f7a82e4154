"""A data owner: its samples, its parts of the model, and the run of its rounds. Raw data never leave it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from itertools import chain, count
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from raysplit.actors.aggregation import UpdateRefused
from raysplit.actors.evaluation import AtCuts, Evaluation, evaluate
from raysplit.actors.expecting.parties import ExpectsAtOwner
from raysplit.actors.guarding.owner import GuardedOwner
from raysplit.actors.parts.gradient_record import GradientRecord, ReceivedGradients
from raysplit.actors.parts.losses import num_counted, resolve_loss, wire_labels
from raysplit.actors.parts.owner_store import STORE, OwnerParts
from raysplit.actors.parts.round_counts import RoundCounts
from raysplit.actors.parts.stage import PartRecipe, Stage, require_finite
from raysplit.actors.records import OwnerReport, RoundContext, StaleCall, StepId, log_report, note_place
from raysplit.actors.steps.measured import Batch as Batch
from raysplit.actors.steps.measured import MeasuringOwner
from raysplit.actors.steps.micro import by_step, step_ids
from raysplit.actors.steps.own_data import read_at_owner
from raysplit.actors.steps.vectorized import no_place, place_among
from raysplit.cluster.contract import current_samples
from raysplit.cluster.device import Device, Inline
from raysplit.data.batches import LocalTraining as LocalTraining
from raysplit.data.inputs import Values
from raysplit.data.samples import Samples
from raysplit.data.sequences.masking import learned, makes_targets
from raysplit.data.transforms import Transform, transformed
from raysplit.guards.costs import GuardRecipe
from raysplit.guards.spending import BudgetSpent
from raysplit.seeding import derive, generator
from raysplit.tasks import Task

if TYPE_CHECKING:
    from raysplit.actors.verbs import NodeHandle

Program = Callable[..., Awaitable[Any]]


class DataOwner(GuardedOwner, MeasuringOwner, ExpectsAtOwner):
    """A party that holds one owner's samples and trains on them. `OwnerHandle` describes the calls from elsewhere.

    Args:
        shard: the owner's training samples.
        recipes: the parts that it trains: the whole model, the first part, or the first and the last (U-shaped cut).
        test: the owner's own test samples, if any.
        guard: what limits what leaves the owner, if anything.
    """

    may_rest: ClassVar[bool] = True
    """Whether other owners may use this one's modules while it is idle. A subclass that keeps none sets it again."""

    def __init__(
        self,
        *,
        name: str,
        shard: Samples,
        transform: Transform,
        recipes: tuple[PartRecipe, ...],
        training: LocalTraining,
        test: Samples | None = None,
        eval_transform: Transform | None = None,
        device: Device | None = None,
        guard: GuardRecipe | None = None,
    ) -> None:
        self.name = name
        data = read_at_owner(shard, test, transform, eval_transform, recipes[0].spec)
        self._shard, self._test, self._transform, self._eval_transform = data
        recipes = self._recipes = self._get_guard(guard, recipes)
        self._training = training
        may_rest = vars(type(self)).get("may_rest") and all(recipe.guards is None for recipe in recipes)
        self._parts = OwnerParts(recipes, device or Inline(), STORE if may_rest else None)
        self._spec = recipes[0].spec
        self._spec.require_base()
        self._dtype: torch.dtype = getattr(torch, self._spec.dtype)
        self._loss = resolve_loss(training.loss)
        self._running: asyncio.Future[OwnerReport] | None = None
        self._mean_gradient = torch.zeros(0)
        self._leave: Callable[[], None] = no_place
        self._reset_counts()

    # -- a round -------------------------------------------------------------------------------------------------

    async def run_round(
        self, program: Program, team: Any, context: RoundContext, state: Mapping[str, Tensor] | None = None
    ) -> OwnerReport:
        """Load ``state`` if given, run the program ``(owner, team, context)``, and return the report."""
        self._reset_counts()
        try:
            return await self._run(self._round(program, team, context, state), context)
        except BudgetSpent as error:
            raise UpdateRefused(self.name, context.round, str(error)) from error
        except Exception as error:
            note_place(error, f"at {self.name}, round {context.round + 1}, step {self._counts.num_steps + 1}")
            raise

    async def _round(
        self, program: Program, team: Any, context: RoundContext, state: Mapping[str, Tensor] | None
    ) -> OwnerReport:
        # All of it is one task: an owner that need not wait for others ends its round before the next one's parts,
        # which may then use the same modules, are loaded.
        async with place_among(self._recipes[0].vectorize) as self._leave:
            with self._parts.busy():
                state = self._guard_begins(team, context, state)
                if state is not None:
                    self.load_weights(state)
                for stage in self._stages:
                    if self._training.restart_optimizer:
                        stage.part.restart_optimizer()
                    stage.part.scale_learning_rate(context.lr_scale)
                record = GradientRecord(self.first.part) if context.record_gradients else None
                await program(self, team, context)
                if record is not None:
                    self._mean_gradient = record.close()
                self._counts.tell_empty(self.name, context)
                return log_report(context, self._guard_ends(self._report()))

    async def _run(self, work: Awaitable[OwnerReport], context: RoundContext) -> OwnerReport:
        # The round runs as a task of its own, which `load_state_dict` can cancel while it waits for a lost party.
        running = self._running = asyncio.ensure_future(work)
        try:
            return await running
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is not None and this.cancelling():
                raise
            raise StaleCall(f"{self.name} aborted round {context.round}, attempt {context.attempt}") from None

    def batches(self, context: RoundContext) -> Iterator[tuple[StepId, Batch]]:
        """Iterate over the round's mini-batches: as many as the context says, each epoch in an order of its own."""
        made = self._batches(context)
        for step_id, batch in by_step(made, self._loss) if self._training.accumulate > 1 else made:
            current_samples.set(batch.indices)
            yield step_id, batch
        self._leave()  # what follows may wait for other owners

    def _batches(self, context: RoundContext) -> Iterator[tuple[StepId, Batch]]:
        for step_id, indices in self._round_indices(context):
            current_samples.set(indices)
            yield step_id, self._batch(step_id, indices)

    def _round_indices(self, context: RoundContext) -> Iterator[tuple[StepId, Tensor]]:
        """Iterate over the positions of the samples of each mini-batch of a round."""
        ids = step_ids(self.name, context, self._training.accumulate)
        orders = chain.from_iterable(self._epoch(context.round, epoch) for epoch in count())
        return zip(ids, orders, strict=False)

    def num_targets(self, context: RoundContext) -> int:
        """Return the number of counted targets of a round's mini-batches: labels, pixels, tokens or numbers."""
        return sum(num_counted(self._loss, self._targets(*each)) for each in self._round_indices(context))

    def _targets(self, step_id: StepId, indices: Tensor) -> Any:
        samples = self._shard.take(indices)
        return learned(self._transformed(step_id, samples), samples.y) if makes_targets(self._transform) else samples.y

    def _transformed(self, step_id: StepId, samples: Samples) -> Values:
        return transformed(samples.x, self._transform, lambda: step_id.stream(self._training.seed, "transform"))

    def note(self, step_id: StepId, loss: float, num_samples: int) -> None:
        """Add a step's mean loss to the report, by its number of counted elements. Raises `NonFiniteLoss`."""
        loss = require_finite(step_id, loss)
        self._counts.add(step_id, loss if self.guard is None else self.guard.loss(loss), num_samples)

    def _epoch(self, round: int, epoch: int) -> list[Tensor]:
        if self._training.shuffle:
            keys = (self.name, "round", round, "epoch", epoch, "order")
            order = torch.from_numpy(self._shard.shuffled(generator(self._training.seed, *keys)))
        else:
            order = torch.arange(len(self._shard))
        sizes = self._training.batch_sizes(len(order))
        order = order[: sum(sizes)]
        return [order] if len(sizes) == 1 else list(torch.split(order, sizes))

    def _batch(self, step_id: StepId, indices: Tensor) -> Batch:
        samples = self._shard.take(indices)
        x = self._transformed(step_id, samples)
        y = learned(x, samples.y)
        self._counts.expect(step_id, y)
        return Batch(x=self._spec.cast(x), y=wire_labels(y), indices=indices)

    # -- computing on its parts ----------------------------------------------------------------------------------

    @property
    def _stages(self) -> list[Stage]:
        """All parts of this owner; outside of a round they may be packed between two accesses."""
        return self._with_noise(self._parts.stages)

    @property
    def first(self) -> Stage:
        """The part that receives the inputs: the whole model if it is not cut."""
        return self._stages[0]

    @property
    def last(self) -> Stage:
        """The part that receives the labels, if the owner holds it."""
        return self._stages[-1]

    async def train_batch(self, step_id: StepId, batch: Batch) -> None:
        """Train the whole model for one step on a batch, and note the loss."""
        loss, _ = await self.first.loss_gradient(step_id, batch.x, batch.y, self._loss)
        await self.first.update(step_id)
        self.note(step_id, loss, len(batch))

    async def loss_gradient(self, step_id: StepId, z: Any, batch: Batch) -> Any:
        """Note the loss of the last part on ``z`` [B, ...]; return the gradient of ``z`` before the part's update."""
        loss, g = await self.last.loss_gradient(step_id, z, batch.y, self._loss)
        self.note(step_id, loss, len(batch))
        return g

    async def first_backward(self, step_id: StepId, g: Any, server: NodeHandle | None = None) -> None:
        """Run the first part backward with the gradient ``g`` of its outputs, and update it as the server's part is."""
        if self.guard is not None:
            self.guard.watch(g)
        await self.first.backward(step_id, g)
        factor = None
        if server is not None and step_id.is_last and self.first.exchanges_norms:
            factor = await server.clip(step_id.untold, {0: await self.first.norms(step_id)})
        await self.first.update(step_id, factor)

    # -- state ---------------------------------------------------------------------------------------------------

    async def set_learning_rate(self, rate: float) -> None:
        """Set the learning rate of all parts held here, which the schedule still multiplies."""
        for stage in self._stages:
            stage.part.set_learning_rate(rate)

    def weights(self) -> dict[str, Tensor]:
        """Copy the weights and buffers of all parts held here, by name."""
        return {key: value for stage in self._stages for key, value in stage.part.weights().items()}

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Load the weights and buffers of the parts held here; other entries are ignored."""
        for stage in self._stages:
            stage.load_weights({key: state[key] for key in stage.part.names() if key in state})

    parts_state, load_parts = weights, load_weights  # their former names

    async def recut(self, recipes: tuple[PartRecipe, ...]) -> None:
        """Abort a round that is under way, and replace the parts by others with their initial weights."""
        await self.load_state_dict({})
        self._recipes, self._parts = recipes, self._parts.recut(recipes)

    async def state_dict(self) -> dict[str, Any]:
        """Return the state to resume from after a round; random streams need none, as each round has its own."""
        return {"parts": [stage.part.state_dict() for stage in self._stages], **self._guard_state()}

    async def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Abort a round that is under way and restore a `state_dict`; an empty one leaves the weights as they are."""
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait([self._running])
        for stage in self._stages:
            stage.part.abandon()
        for stage, part in zip(self._stages, state.get("parts", ()), strict=False):
            stage.part.load_state_dict(part)
        self._load_guard_state(state)

    def progress(self) -> int | None:
        """Return the number of steps done in the present round; None between rounds."""
        return None if self._running is None or self._running.done() else self._counts.num_steps

    async def evaluate(self, *states: Mapping[str, Tensor], at_cuts: AtCuts | None = None) -> Evaluation:
        """Evaluate the model whose weights are the union of ``states`` on this owner's own test samples."""
        if self._test is None:
            raise ValueError(f"{self.name} has no test samples of its own; give DataOwner some as `test`")
        seed, device = derive(self._training.seed, self.name, "evaluation"), self._recipes[0].device
        test, transform = self._test, self._eval_transform
        return evaluate(self._spec, states, test, transform, self._loss, seed=seed, device=device, at_cuts=at_cuts)

    def _report(self) -> OwnerReport:
        return replace(self._counts.report(self.name), told_by=tuple(sorted(self._told_by)))

    def _reset_counts(self) -> None:
        self._counts = RoundCounts(self._loss.count if isinstance(self._loss, Task) else None)
        self._received, self._told_by = ReceivedGradients(), set[str]()
