"""Evaluation of a whole model, put together from the parts' weights, on samples held here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from raysplit.actors.losses import Loss, resolve_loss
from raysplit.data.samples import Samples
from raysplit.data.transforms import Transform
from raysplit.models.spec import ModelSpec

_BATCH_SIZE = 256


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Sums over samples, so that evaluations of several shards add up exactly."""

    num_samples: int
    num_correct: int
    loss_sum: float

    @property
    def accuracy(self) -> float:
        return self.num_correct / self.num_samples

    @property
    def loss(self) -> float:
        return self.loss_sum / self.num_samples

    def __add__(self, other: Evaluation) -> Evaluation:
        return Evaluation(
            num_samples=self.num_samples + other.num_samples,
            num_correct=self.num_correct + other.num_correct,
            loss_sum=self.loss_sum + other.loss_sum,
        )


def evaluate(
    spec: ModelSpec,
    states: Sequence[Mapping[str, Tensor]],
    samples: Samples,
    transform: Transform,
    loss: Loss,
    *,
    seed: int,
    device: str = "cpu",
) -> Evaluation:
    """Evaluate the model whose weights are the union of ``states`` in eval mode."""
    model = spec.build().eval().to(device)
    model.load_state_dict({key: value for state in states for key, value in state.items()})
    dtype: torch.dtype = getattr(torch, spec.dtype)
    gen = torch.Generator().manual_seed(seed)
    total = Evaluation(num_samples=0, num_correct=0, loss_sum=0.0)
    with torch.no_grad():
        for start in range(0, len(samples), _BATCH_SIZE):
            batch = samples.take(range(start, min(start + _BATCH_SIZE, len(samples))))
            logits = model(transform(batch.x, gen).to(device, dtype)).cpu()
            assert isinstance(batch.y, Tensor)
            total += Evaluation(
                num_samples=len(batch),
                num_correct=int((logits.argmax(1) == batch.y).sum()),
                loss_sum=float(loss(logits, batch.y)) * len(batch),
            )
    return total


class Evaluator:
    """Holds (a share of) the common test set."""

    def __init__(
        self,
        *,
        name: str,
        samples: Samples,
        transform: Transform,
        spec: ModelSpec,
        loss: str,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.name = name
        self._samples = samples
        self._transform = transform
        self._spec = spec
        self._loss = resolve_loss(loss)
        self._seed = seed
        self._device = device

    async def evaluate(self, *states: Mapping[str, Tensor], spec: ModelSpec | None = None) -> Evaluation:
        """Loss and accuracy of the run's model with these weights, or of another model where owners differ in it."""
        return evaluate(
            spec or self._spec, states, self._samples, self._transform, self._loss, seed=self._seed, device=self._device
        )
