"""A part of the model on a device: what parties await when they compute."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

from raysplit.actors.parts.losses import Loss
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.part import BufferPolicy, Received, Tensors, TrainablePart, fill
from raysplit.actors.records import NonFiniteLoss, StepId
from raysplit.cluster.device import Device, Work, WorkKind
from raysplit.models.cutting.dropout import draws_masks
from raysplit.models.cutting.randomness import function_may_draw, may_draw
from raysplit.models.spec import ModelSpec
from raysplit.seeding import keyed_draws


@dataclass(frozen=True, kw_only=True)
class PartRecipe:
    """How to build one part of a model anywhere, with the run's initial weights, and how to train it.

    Attributes:
        spec: the whole model.
        cuts: where it is cut; no cut leaves one part, the whole model.
        index: which part this is, counted from 0.
        optimizer: its optimiser.
        seed: seeds the dropout masks, by owner, round, step and module.
        buffers: whether loading an average also replaces batch-norm statistics.
        device: the torch device, ``cpu`` or ``cuda``.
    """

    spec: ModelSpec
    cuts: tuple[int | str, ...] = ()
    index: int = 0
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    proximal_mu: float = 0.0
    seed: int = 0
    buffers: BufferPolicy = "average"
    device: str = "cpu"

    def module(self) -> nn.Module:
        """A new module of this part, with the run's initial weights."""
        return self.spec.parts(self.cuts)[self.index]

    def build(self, device: Device) -> Stage:
        return self._stage(self.module(), device)

    def build_in(self, module: nn.Module, device: Device) -> Stage:
        """The same in a used module of this part: its weights become the run's initial ones."""
        fill(module, initial_tensors(self.spec, self.cuts, self.index))
        return self._stage(module, device)

    def _stage(self, module: nn.Module, device: Device) -> Stage:
        part = TrainablePart(
            module,
            self.optimizer,
            input_gradients=self.index > 0,  # part 0 sees the data
            proximal_mu=self.proximal_mu,
            device=self.device,
        )
        return Stage(part, device, self)


@lru_cache(maxsize=8)
def initial_tensors(spec: ModelSpec, cuts: tuple[int | str, ...], index: int) -> list[Tensor]:
    """All parameters and buffers of a part as a run starts with them; never written to."""
    module = spec.parts(cuts)[index]
    return [tensor.detach() for tensor in (*module.parameters(), *module.buffers())]


class Stage:
    """The asynchronous face of a `TrainablePart` on its `Device`."""

    def __init__(self, part: TrainablePart, device: Device, recipe: PartRecipe) -> None:
        self.part = part
        self._device = device
        self._recipe = recipe
        self._draws_masks = draws_masks(part.module)
        self._draws = may_draw(part.module)

    def forward(self, step_id: StepId, z: Received) -> Awaitable[Tensors]:
        return self.compute("forward", step_id, lambda: self.part.forward(z, stream=self._stream(step_id)))

    def backward(self, step_id: StepId, g: Tensors) -> Awaitable[Tensors]:
        """The gradient of the inputs; apply the parameters' own with `update`."""
        return self.compute("backward", step_id, lambda: self.part.backward(g))

    def update(self, step_id: StepId) -> Awaitable[None]:
        return self.compute("update", step_id, self.part.step)

    async def loss_gradient(self, step_id: StepId, z: Received, y: Any, loss: Loss) -> tuple[float, Tensors]:
        """The mean loss of the batch and the gradient of the inputs; raises `NonFiniteLoss`."""
        value, g = await self.compute(
            "loss", step_id, lambda: self.part.loss_gradient(z, y, loss, stream=self._stream(step_id)), with_loss=loss
        )
        return require_finite(step_id, value), g

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        self.part.load_weights(state, buffers=self._recipe.buffers)

    def _stream(self, step_id: StepId) -> int:
        return step_id.stream(self._recipe.seed, "dropout") if self._draws_masks else 0

    def compute(
        self, kind: WorkKind, step_id: StepId, compute: Callable[[], Any], *, with_loss: Loss | None = None
    ) -> Awaitable[Any]:
        """Any other work on this part, done in turn on its device.

        What it draws from global streams, in the part's modules or in ``with_loss``, comes from a stream of its own.
        """
        index = self._recipe.index
        work = Work(kind, step_id.owner, index, step_id.round, step_id.step)
        draws = self._draws or (with_loss is not None and function_may_draw(with_loss))
        if not draws or kind == "update":
            return self._device.run(work, compute)

        def keyed() -> Any:
            with keyed_draws(step_id.stream(self._recipe.seed, f"draws of {kind} {index}"), self._recipe.device):
                return compute()

        return self._device.run(work, keyed)


def require_finite(step_id: StepId, loss: float) -> float:
    """The loss itself, or `NonFiniteLoss` naming the owner, round and step."""
    if not math.isfinite(loss):
        raise NonFiniteLoss(step_id.owner, step_id.round, step_id.step, loss)
    return loss
