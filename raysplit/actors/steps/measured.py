"""An owner's mini-batches, and what it measures over its whole shard at weights that it is given."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from raysplit.actors.parts.losses import Loss, wire_labels
from raysplit.actors.parts.stage import Stage
from raysplit.actors.steps.whole_shard import whole_gradient
from raysplit.data.batches import LocalTraining
from raysplit.data.inputs import Values
from raysplit.data.samples import Samples
from raysplit.data.sequences.masking import learned
from raysplit.data.transforms import Transform
from raysplit.models.frozen import load_trained
from raysplit.models.spec import ModelSpec
from raysplit.seeding import torch_generator

_WHOLE_SHARD_ROWS = 512


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A mini-batch of B samples.

    Attributes:
        x: the transformed inputs [B, ...]; a mapping of tensors by name for models with several inputs.
        y: the labels as they are sent: a tensor [B, ...], or a mapping of tensors by task.
        indices: the positions [B] of the samples in the owner's shard.
    """

    x: Values
    y: Any
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)


class MeasuringOwner(ABC):
    """The half of a `DataOwner` that measures gradients."""

    name: str
    _shard: Samples
    _training: LocalTraining
    _transform: Transform
    _spec: ModelSpec
    _loss: Loss
    _dtype: torch.dtype
    _mean_gradient: Tensor

    @property
    @abstractmethod
    def first(self) -> Stage:
        """The part that receives the inputs."""

    def whole_shard(self, purpose: str) -> Iterator[Batch]:
        """Iterate over all samples in stored order, in large batches; ``purpose`` keys the transform's stream."""
        gen = torch_generator(self._training.seed, self.name, purpose)
        for indices in torch.split(torch.arange(len(self._shard)), _WHOLE_SHARD_ROWS):
            samples = self._shard.take(indices)
            made = self._transform(samples.x, gen)
            x, y = self._spec.cast(made), learned(made, samples.y)
            yield Batch(x=x, y=wire_labels(y), indices=indices)

    async def local_gradient(self, *states: Mapping[str, Tensor]) -> Tensor:
        """Compute the gradient [dim] of the mean loss over the whole shard at these weights, for the first part.

        Batch norm uses batch statistics; dropout is off.
        """
        model = self._spec.whole()
        load_trained(model, {key: value for state in states for key, value in state.items()})
        own = {name for name, p in self.first.part.module.named_parameters() if p.requires_grad}
        flat = whole_gradient(model, own, partial(self.whole_shard, "divergence"), self._loss)
        return torch.cat([torch.zeros(0, dtype=self._dtype), *flat])

    async def mean_gradient(self) -> Tensor:
        """Return the mean [dim] of the first part's mini-batch gradients in the last round that recorded them."""
        return self._mean_gradient
