"""Evaluation of a whole model, joined from the weights of its parts, on the samples of a party."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor

from raysplit.actors.at_cuts import AtCuts as AtCuts
from raysplit.actors.at_cuts import evaluated_model, rows_per_batch
from raysplit.actors.parts.losses import Loss, resolve_loss
from raysplit.data.inputs import feed
from raysplit.data.samples import Samples
from raysplit.data.transforms import Transform
from raysplit.models.classifier import losses as joint
from raysplit.models.cutting.randomness import function_may_draw, may_draw
from raysplit.models.dense.losses import task_losses
from raysplit.models.spec import ModelSpec
from raysplit.seeding import keyed_draws

_BATCH_SIZE = 256


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of an evaluation, as sums over samples, so that results of several shards add up exactly.

    Attributes:
        num_samples: samples evaluated.
        num_correct: samples with a correct prediction; None if a sample has several targets.
        loss_sum: sum of the losses of all samples.
        task_loss_sums: the same by task, if a sample has several targets.
        task_num_correct: samples with a correct prediction by task; empty for dense targets, which have no classes.
    """

    num_samples: int
    num_correct: int | None
    loss_sum: float
    task_loss_sums: Mapping[str, float] = field(default_factory=dict)
    task_num_correct: Mapping[str, int] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        assert self.num_correct is not None
        return self.num_correct / self.num_samples

    @property
    def loss(self) -> float:
        return self.loss_sum / self.num_samples

    @property
    def task_losses(self) -> dict[str, float]:
        """The mean loss of each task; empty if a sample has one label."""
        return {task: total / self.num_samples for task, total in self.task_loss_sums.items()}

    @property
    def task_accuracies(self) -> dict[str, float]:
        """The share of correct predictions of each task with class labels."""
        return {task: count / self.num_samples for task, count in self.task_num_correct.items()}

    def __add__(self, other: Evaluation) -> Evaluation:
        own, others = self.num_correct, other.num_correct
        sums = self.task_loss_sums
        return Evaluation(
            num_samples=self.num_samples + other.num_samples,
            num_correct=None if own is None or others is None else own + others,
            loss_sum=self.loss_sum + other.loss_sum,
            task_loss_sums={task: sums.get(task, 0.0) + total for task, total in other.task_loss_sums.items()},
            task_num_correct={
                task: self.task_num_correct.get(task, 0) + count for task, count in other.task_num_correct.items()
            },
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
    at_cuts: AtCuts | None = None,
) -> Evaluation:
    """Evaluate the model whose weights are the union of ``states``, in eval mode.

    Args:
        spec: the whole model.
        states: weights and buffers by name, of all parts.
        samples: the samples to evaluate on.
        transform: transform of their inputs.
        loss: the mean loss of a batch, for samples with one label; tasks have their own losses.
        seed: seed of the transform's random stream.
        device: torch device of the computation.
        at_cuts: codecs at the cuts of the model; None evaluates the plain model.
    """
    model = evaluated_model(spec, states, at_cuts, device)
    batch_size = rows_per_batch(at_cuts, _BATCH_SIZE)
    gen = torch.Generator().manual_seed(seed)
    total = Evaluation(num_samples=0, num_correct=0, loss_sum=0.0)
    draws = may_draw(model) or function_may_draw(loss)
    with torch.no_grad(), keyed_draws(seed, device) if draws else nullcontext():
        for start in range(0, len(samples), batch_size):
            batch = samples.take(range(start, min(start + batch_size, len(samples))))
            outputs = feed(model, spec.cast(transform(batch.x, gen), device))
            total += (
                _of_classes(outputs.cpu(), batch.y, loss)
                if isinstance(batch.y, Tensor)
                else _of_tasks({task: output.cpu() for task, output in outputs.items()}, batch.y)
            )
    return total


def _of_classes(logits: Tensor, y: Tensor, loss: Loss) -> Evaluation:
    correct = int((logits.argmax(1) == y).sum())
    return Evaluation(num_samples=len(y), num_correct=correct, loss_sum=float(loss(logits, y)) * len(y))


def _of_tasks(outputs: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Evaluation:
    """Evaluate tasks: class labels by cross-entropy, dense targets by their own losses.

    ``y`` may have more tasks than the model.
    """
    num_samples = len(next(iter(y.values())))
    has_labels = all(y[task].ndim == 1 for task in outputs)
    losses = joint.task_losses(outputs, y) if has_labels else task_losses(outputs, y)
    sums = {task: float(value) * num_samples for task, value in losses.items()}
    right = {task: int((logits.argmax(1) == y[task]).sum()) for task, logits in outputs.items()} if has_labels else {}
    return Evaluation(
        num_samples=num_samples,
        num_correct=None,
        loss_sum=sum(sums.values()),
        task_loss_sums=sums,
        task_num_correct=right,
    )


class Evaluator:
    """A party that holds the common test set, or a share of it."""

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

    async def evaluate(
        self, *states: Mapping[str, Tensor], spec: ModelSpec | None = None, at_cuts: AtCuts | None = None
    ) -> Evaluation:
        """Evaluate the model whose weights are the union of ``states``: the run's, or that of ``spec`` if given.

        ``at_cuts`` are codecs at the cuts of the model.
        """
        return evaluate(
            spec or self._spec,
            states,
            self._samples,
            self._transform,
            self._loss,
            seed=self._seed,
            device=self._device,
            at_cuts=at_cuts,
        )
