"""A part of the model on a device, with the asynchronous calls that parties await."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from torch import Tensor, nn

from raysplit.actors.parts.leaves import Tensors
from raysplit.actors.parts.losses import Loss
from raysplit.actors.parts.optim import OptimizerSpec
from raysplit.actors.parts.part import BufferPolicy, Received, TrainablePart, fill
from raysplit.actors.records import NonFiniteLoss, StepId
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
        device: torch device, ``cpu`` or ``cuda``.
        most_rows: the largest number of samples of a batch; None sets no limit.
    """

    spec: ModelSpec
    cuts: tuple[int | str, ...] = ()
    index: int = 0
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    proximal_mu: float = 0.0
    seed: int = 0
    buffers: BufferPolicy = "average"
    device: str = "cpu"
    most_rows: int | None = None

    def module(self) -> nn.Module:
        """Build a module of this part, with the run's initial weights."""
        return self.spec.parts(self.cuts)[self.index]

    def build(self, device: Device) -> Stage:
        """Build the part on a device that orders its work."""
        return self._stage(self.module(), device)

    def build_in(self, module: nn.Module, device: Device) -> Stage:
        """Build the part in a used module of its kind, whose weights become the run's initial ones."""
        fill(module, initial_tensors(self.spec, self.cuts, self.index))
        return self._stage(module, device)

    def _stage(self, module: nn.Module, device: Device) -> Stage:
        part = TrainablePart(
            module,
            self.optimizer,
            input_gradients=self.index > 0,  # part 0 receives the data
            proximal_mu=self.proximal_mu,
            device=self.device,
        )
        return Stage(part, device, self)


@lru_cache(maxsize=8)
def initial_tensors(spec: ModelSpec, cuts: tuple[int | str, ...], index: int) -> list[Tensor]:
    """Return all initial parameters and buffers of a part. They are cached: never write to them."""
    module = spec.parts(cuts)[index]
    return [tensor.detach() for tensor in (*module.parameters(), *module.buffers())]


class Stage:
    """The asynchronous interface of a `TrainablePart` on its `Device`."""

    def __init__(self, part: TrainablePart, device: Device, recipe: PartRecipe) -> None:
        self.part = part
        self._device = device
        self._recipe = recipe
        self._draws_masks = draws_masks(part.module)
        self._draws = may_draw(part.module)

    def forward(self, step_id: StepId, z: Received) -> Awaitable[Tensors]:
        """Run the part forward on ``z`` [B, ...], and keep the graph for `backward`."""
        return self.compute("forward", step_id, lambda: self.part.forward(z, stream=self._stream(step_id)))

    def backward(self, step_id: StepId, g: Tensors) -> Awaitable[Tensors]:
        """Run the part backward with the gradient ``g`` of its outputs, and return that of its inputs.

        The gradients of the parameters are accumulated; `update` applies them.
        """
        return self.compute("backward", step_id, lambda: self.part.backward(g))

    def update(self, step_id: StepId) -> Awaitable[None]:
        """Apply the accumulated gradients: one step of the optimizer."""
        return self.compute("update", step_id, self.part.step)

    async def loss_gradient(self, step_id: StepId, z: Received, y: Any, loss: Loss) -> tuple[float, Tensors]:
        """Run the last part forward and backward; return the mean loss of the batch and the gradient of ``z`` [B, ...].

        Raises:
            NonFiniteLoss: if the loss is NaN or infinite.
        """
        value, g = await self.compute(
            "loss", step_id, lambda: self.part.loss_gradient(z, y, loss, stream=self._stream(step_id)), with_loss=loss
        )
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


def require_finite(step_id: StepId, loss: float) -> float:
    """Return the loss, or raise `NonFiniteLoss` with owner, round and step."""
    if not math.isfinite(loss):
        raise NonFiniteLoss(step_id.owner, step_id.round, step_id.step, loss)
    return loss
