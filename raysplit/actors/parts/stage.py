"""A part of the model on a device, with the asynchronous calls that parties await."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from torch import Tensor, nn

from raysplit.actors.guarding.part import GuardedPart, PartGuards
from raysplit.actors.parts.leaves import Tensors
from raysplit.actors.parts.losses import Loss
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.packed import fill, kept_tensors
from raysplit.actors.parts.part import BufferPolicy, Received, TrainablePart
from raysplit.actors.records import NonFiniteLoss, StepId
from raysplit.actors.steps.clip import coefficient, in_model_order, norms_of, own_coefficient, trained_parameters
from raysplit.actors.steps.rules import StepRules
from raysplit.actors.steps.shares import share_of
from raysplit.actors.steps.vectorized import loss_in_company
from raysplit.cluster.device import Device, Work, WorkKind
from raysplit.models.cutting.dropout import draws_masks
from raysplit.models.cutting.randomness import function_may_draw, may_draw
from raysplit.models.spec import ModelSpec
from raysplit.seeding import keyed_draws


@dataclass(frozen=True, kw_only=True)
class PartRecipe:
    """A recipe from which any process builds one part of a model, with the run's initial weights.

    Attributes:
        spec: the whole model.
        cuts: its cuts; without one, the only part is the whole model.
        index: the number of the part, counted from 0 at the inputs.
        optimizer: optimizer of the part.
        proximal_mu: weight of FedProx's proximal term; see `TrainablePart`.
        seed: seed of the dropout masks, which are also keyed by owner, round, step and module.
        buffers: whether loading an average replaces batch-norm statistics (``average``) or not (``local``).
        rules: further rules of its steps.
        device: torch device, ``cpu`` or ``cuda``.
        most_rows: the largest number of samples of a batch; None sets no limit.
        guards: what an owner's guard asks of its steps; None where nothing.
        vectorize: the most owners of a process whose gradients are computed at once; 1 computes one after another.
    """

    spec: ModelSpec
    cuts: tuple[int | str, ...] = ()
    index: int = 0
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    proximal_mu: float = 0.0
    seed: int = 0
    buffers: BufferPolicy = "average"
    rules: StepRules = field(default_factory=StepRules)
    device: str = "cpu"
    most_rows: int | None = None
    guards: PartGuards | None = None
    vectorize: int = 1

    @property
    def kind(self) -> Hashable:
        """The kind of the part's module; modules of one kind can be exchanged."""
        return self.spec, self.cuts, self.index, self.device

    def module(self) -> nn.Module:
        """Build a module of this part, with the run's initial weights; frozen ones are those of the process."""
        return self.spec.part(self.cuts, self.index, self.device)

    def build(self, device: Device) -> Stage:
        """Build the part on a device that orders its work."""
        return self._stage(self.module(), device)

    def build_in(self, module: nn.Module, device: Device) -> Stage:
        """Build the part in a used module of its kind, whose weights become the run's initial ones."""
        fill(module, initial_tensors(self.spec, self.cuts, self.index))
        return self._stage(module, device)

    def _stage(self, module: nn.Module, device: Device) -> Stage:
        kind = TrainablePart if self.guards is None else partial(GuardedPart, guards=self.guards)
        part = kind(
            module,
            self.optimizer,
            input_gradients=is_trained_before(self.spec, self.cuts, self.index),
            proximal_mu=self.proximal_mu,
            rules=self.rules,
            device=self.device,
        )
        return Stage(part, device, self)


@lru_cache(maxsize=8)
def initial_tensors(spec: ModelSpec, cuts: tuple[int | str, ...], index: int) -> list[Tensor]:
    """Return the initial trained parameters and the buffers of a part. They are cached: never write to them."""
    return [tensor.detach() for tensor in kept_tensors(spec.part(cuts, index))]


@lru_cache(maxsize=64)
def is_trained_before(spec: ModelSpec, cuts: tuple[int | str, ...], index: int) -> bool:
    """Whether any part in front of a part is trained, so that the gradient of its inputs is needed."""
    return any(p.requires_grad for part in spec.part_outlines(cuts)[:index] for p in part.parameters())


def has_trained(recipe: PartRecipe) -> bool:
    """Whether a part has weights that are trained."""
    part = recipe.spec.part_outlines(recipe.cuts)[recipe.index]
    return any(p.requires_grad for p in part.parameters())


class Stage:
    """The asynchronous interface of a `TrainablePart` on its `Device`."""

    def __init__(self, part: TrainablePart, device: Device, recipe: PartRecipe) -> None:
        self.part = part
        self._device = device
        self._recipe = recipe
        self._draws_masks = draws_masks(part.module)
        self._draws = may_draw(part.module)
        self.through: Callable[[StepId, Tensors], Tensors] | None = None  # set by an owner whose guard changes z

    def forward(self, step_id: StepId, z: Received) -> Awaitable[Tensors]:
        """Run the part forward on ``z`` [B, ...], and keep the graph for `backward`."""
        return self.compute("forward", step_id, lambda: self.part.forward(z, stream=self._stream(step_id)))

    def backward(self, step_id: StepId, g: Tensors) -> Awaitable[Tensors]:
        """Run the part backward with the gradient ``g`` of its outputs, and return that of its inputs.

        The gradients of the parameters are accumulated; `update` applies them.
        """
        if self.through is not None:
            g = self.through(step_id, g)
        return self.compute("backward", step_id, lambda: self.part.backward(g))

    @property
    def index(self) -> int:
        """The number of the part."""
        return self._recipe.index

    @property
    def exchanges_norms(self) -> bool:
        """Whether a step needs a factor from the norms of all parts (see `raysplit.actors.steps.exchange`)."""
        clip = self._recipe.rules.clip
        return clip is not None and clip.scope == "model" and bool(self._recipe.cuts)

    async def norms(self, step_id: StepId) -> Tensor:
        """Return the norms [T] of the gradients of the T trained weights."""
        module = self.part.module
        found: Tensor = await self.compute("update", step_id, lambda: norms_of(trained_parameters(module)), batches=0)
        return found

    def coefficient(self, step_id: StepId, norms: Mapping[int, Tensor]) -> Tensor:
        """Return the factor [] on the gradients of a step, from the norms of all parts by their number.

        Raises:
            NonFiniteNorm: if the norm of the model is NaN or infinite.
        """
        clip, recipe = self._recipe.rules.clip, self._recipe
        assert clip is not None
        return coefficient(step_id, in_model_order(recipe.spec, recipe.cuts, norms), clip.norm)

    def update(self, step_id: StepId, factor: Tensor | None = None) -> Awaitable[None]:
        """Apply the accumulated gradients: one step of the optimizer, unless micro-batches of the step follow.

        Args:
            step_id: the owner's step.
            factor: the factor [] on the gradients of parts that are clipped together.

        Raises:
            NonFiniteNorm: if gradients are to be clipped whose norm is NaN or infinite.
        """
        if not step_id.is_last:
            return _nothing()
        rules = self._recipe.rules
        if rules == StepRules():
            return self.compute("update", step_id, self.part.step)
        return self.compute("update", step_id, lambda: self._step(step_id, rules, factor))

    def _step(self, step_id: StepId, rules: StepRules, factor: Tensor | None) -> None:
        if rules.rates is not None:
            self.part.scale_step(rules.rates.factor(step_id.round, step_id.step))
        self.part.step(self._clipping(step_id, rules, factor))

    def _clipping(
        self, step_id: StepId, rules: StepRules, factor: Tensor | None
    ) -> Callable[[list[nn.Parameter]], Tensor] | None:
        """Return the function that gives the factor on the gradients of a step; None where they are not clipped."""
        if factor is not None:
            return lambda _: factor
        if rules.clip is None:
            return None
        assert not self.exchanges_norms, "the factor comes from the norms of all parts"
        return partial(own_coefficient, step_id, rules.clip.norm)

    async def loss_gradient(self, step_id: StepId, z: Received, y: Any, loss: Loss) -> tuple[float, Tensors]:
        """Run the last part forward and backward; return the mean loss of the batch and the gradient of ``z`` [B, ...].

        Raises:
            NonFiniteLoss: if the loss is NaN or infinite.
        """
        share = share_of(loss, y, step_id.counted)
        if self._recipe.vectorize > 1:
            self.part.set_mode()
            value = await loss_in_company(self._recipe.kind, self.part.module, z, y, loss, share)
            return require_finite(step_id, value), ()
        computing = partial(self.part.loss_gradient, z, y, loss, stream=self._stream(step_id), share=share)
        value, g = await self.compute("loss", step_id, computing, with_loss=loss)
        return require_finite(step_id, value), g

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Load these weights; batch-norm statistics by the recipe's ``buffers``."""
        self.part.load_weights(state, buffers=self._recipe.buffers)

    def _stream(self, step_id: StepId) -> int:
        return step_id.stream(self._recipe.seed, "dropout") if self._draws_masks else 0

    def compute(
        self,
        kind: WorkKind,
        step_id: StepId,
        compute: Callable[[], Any],
        *,
        with_loss: Loss | None = None,
        batches: int = 1,
    ) -> Awaitable[Any]:
        """Run any other computation on this part, in its turn on the device, and return its result.

        On a described machine it takes the time of so many ``batches``.

        What it draws from global streams, in the part's modules or in ``with_loss``, comes from a stream of its own.
        """
        index = self._recipe.index
        work = Work(kind, step_id.owner, index, step_id.round, step_id.step, batches)
        draws = self._draws or (with_loss is not None and function_may_draw(with_loss))
        if not draws or kind == "update":
            return self._device.run(work, compute)

        def keyed() -> Any:
            with keyed_draws(step_id.stream(self._recipe.seed, f"draws of {kind} {index}"), self._recipe.device):
                return compute()

        return self._device.run(work, keyed)


async def _nothing() -> None:
    """Do nothing, where an update is awaited that does not come yet."""


def require_finite(step_id: StepId, loss: float) -> float:
    """Return the loss, or raise `NonFiniteLoss` with owner, round and step."""
    if not math.isfinite(loss):
        raise NonFiniteLoss(step_id.owner, step_id.round, step_id.step, loss)
    return loss
