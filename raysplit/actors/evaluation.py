"""Evaluation of a whole model, joined from the weights of its parts, on the samples of a party.

A model is evaluated once on the samples of many owners, and the sums are divided by owner: whose samples they are
changes neither the batches nor the total.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from raysplit.actors.parts.at_cuts import AtCuts as AtCuts
from raysplit.actors.parts.at_cuts import evaluated_model, rows_per_batch
from raysplit.actors.parts.losses import Loss, cross_entropy
from raysplit.data.inputs import Values, feed, map_values
from raysplit.data.labels import has_target
from raysplit.data.samples import Samples
from raysplit.data.transforms import Transform
from raysplit.models.classifier import losses as joint
from raysplit.models.cutting.randomness import function_may_draw, may_draw
from raysplit.models.dense.losses import task_losses
from raysplit.models.spec import ModelSpec
from raysplit.seeding import keyed_draws
from raysplit.tasks import Task
from raysplit.tasks.task import Sums, added

_BATCH_SIZE = 256


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of an evaluation, as sums over samples, so that results of several shards add up exactly.

    Attributes:
        num_samples: samples evaluated.
        num_correct: samples with a correct prediction; None if a sample has several targets, or no classes.
        loss_sum: sum of the losses of all samples.
        task_loss_sums: the same by task, if a sample has several targets.
        task_num_correct: samples with a correct prediction by task; empty for dense targets, which have no classes.
        task_num_samples: samples with a target by task; a task that is left out has one for every sample.
        sums: the sums of the run's task, from which it computes its figures.
        by_owner: the same of each owner's own samples, where it is known whose they are.
        by_domain: the same of the samples as each owner sees them, where owners have inputs of their own; then the
            other fields are sums over the owners.
    """

    num_samples: int
    num_correct: int | None
    loss_sum: float
    task_loss_sums: Mapping[str, float] = field(default_factory=dict)
    task_num_correct: Mapping[str, int] = field(default_factory=dict)
    task_num_samples: Mapping[str, int] = field(default_factory=dict)
    sums: Sums = field(default_factory=dict)
    by_owner: Mapping[str, Evaluation] = field(default_factory=dict)
    by_domain: Mapping[str, Evaluation] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        assert self.num_correct is not None
        return self.num_correct / self.num_counted

    @property
    def loss(self) -> float:
        return self.loss_sum / self.num_counted

    @property
    def num_counted(self) -> int:
        """The number of elements that the loss is a mean over: those that the task counts, by default the samples."""
        return max(1, int(self.sums["count"])) if self.sums else self.num_samples

    @property
    def task_losses(self) -> dict[str, float]:
        """The mean loss of each task with targets; empty if a sample has one label."""
        counts = {task: self._num_samples(task) for task in self.task_loss_sums}
        return {task: self.task_loss_sums[task] / count for task, count in counts.items() if count}

    @property
    def task_accuracies(self) -> dict[str, float]:
        """The share of correct predictions of each task with class labels."""
        counts = {task: self._num_samples(task) for task in self.task_num_correct}
        return {task: self.task_num_correct[task] / count for task, count in counts.items() if count}

    def _num_samples(self, task: str) -> int:
        return self.task_num_samples.get(task, self.num_samples)

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
            task_num_samples={
                task: self._num_samples(task) + other._num_samples(task)
                for task in {**self.task_num_samples, **other.task_num_samples}
            },
            sums=added(self.sums, other.sums),
            by_owner=_summed(self.by_owner, other.by_owner),
            by_domain=_summed(self.by_domain, other.by_domain),
        )


def _summed(one: Mapping[str, Evaluation], other: Mapping[str, Evaluation]) -> dict[str, Evaluation]:
    return {**one, **{name: one[name] + value if name in one else value for name, value in other.items()}}


@dataclass(frozen=True, kw_only=True, eq=False)
class Ownership:
    """The owner of each sample.

    Attributes:
        names: the names of the owners.
        index: the position in ``names`` of the owner of each sample [N], int64; -1 for nobody's.
    """

    names: tuple[str, ...]
    index: Tensor


def evaluate(
    spec: ModelSpec,
    states: Sequence[Mapping[str, Tensor]],
    samples: Samples,
    transform: Transform,
    loss: Loss,
    *,
    seed: int,
    device: str = "cpu",
    ownership: Ownership | None = None,
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
        ownership: whose the samples are, to divide the result by owner; None does not divide it.
        at_cuts: codecs at the cuts of the model; None evaluates the plain model.
    """
    model = evaluated_model(spec, states, at_cuts, device)
    usual = loss.rows_per_batch if isinstance(loss, Task) else _BATCH_SIZE
    batch_size = rows_per_batch(at_cuts, usual)
    gen = torch.Generator().manual_seed(seed)
    total = Evaluation(num_samples=0, num_correct=0, loss_sum=0.0)
    division = None if ownership is None else Division(ownership, loss)
    draws = may_draw(model) or function_may_draw(loss)
    with torch.no_grad(), keyed_draws(seed, device) if draws else nullcontext():
        for start in range(0, len(samples), batch_size):
            batch = samples.take(range(start, min(start + batch_size, len(samples))))
            outputs = feed(model, spec.cast(transform(batch.x, gen), device))
            outputs = map_values(Tensor.cpu, loss.answered(outputs) if isinstance(loss, Task) else outputs)
            total += _of_batch(outputs, batch.y, loss)
            if division is not None:
                with keyed_draws(seed, device) if draws else nullcontext():  # the total's streams stay where they are
                    division.add(outputs, batch.y)
    return total if division is None else replace(total, by_owner=division.by_owner())


class Division:
    """The sums of an evaluation by owner, batch after batch: for class labels at once, for others owner by owner."""

    def __init__(self, ownership: Ownership, loss: Loss) -> None:
        self._ownership = ownership
        self._loss = loss
        self._sums: dict[tuple[str, str], Tensor] = {}  # by kind of sum and task, one value [N] per owner
        self._others: dict[str, Evaluation] = {}
        self._seen = 0

    def add(self, outputs: Values, y: Values) -> None:
        """Add a batch, whose samples follow those before."""
        named = {"": outputs} if isinstance(outputs, Tensor) else outputs
        targets = {task: y if isinstance(y, Tensor) else y[task] for task in named}
        size = len(next(iter(targets.values())))
        owners = self._ownership.index[self._seen : self._seen + size]
        self._seen += size
        has_owner = owners >= 0
        is_plain = not isinstance(self._loss, Task) and (
            "" not in named or (self._loss is cross_entropy and _has_classes(named[""]))
        )
        if is_plain and all(target.ndim == 1 for target in targets.values()):
            at = owners[has_owner]
            self._put("samples", "", at, torch.ones(len(at)))
            for task, logits in named.items():
                own, labels = logits[has_owner], targets[task][has_owner]
                self._put("labels", task, at, has_target(labels))
                self._put("right", task, at, own.argmax(1) == labels)
                self._put("loss", task, at, F.cross_entropy(own, labels.long(), reduction="none"))
            return
        for owner in sorted(set(owners[has_owner].tolist())):
            rows = (owners == owner).nonzero()[:, 0]
            own_targets = targets[""] if isinstance(outputs, Tensor) else targets
            found = _of_batch(_taken(outputs, rows), _taken(own_targets, rows), self._loss)
            self._others = _summed(self._others, {self._ownership.names[owner]: found})

    def _put(self, kind: str, task: str, owners: Tensor, values: Tensor) -> None:
        sums = self._sums.setdefault((kind, task), torch.zeros(len(self._ownership.names), dtype=torch.float64))
        sums.index_add_(0, owners, values.double())

    def by_owner(self) -> dict[str, Evaluation]:
        """Return the sums of the owners with samples, in the order of their names."""
        if not self._sums:
            return {name: self._others[name] for name in self._ownership.names if name in self._others}
        numbers = {key: sums.tolist() for key, sums in self._sums.items()}
        tasks = [task for kind, task in numbers if kind == "loss"]
        found = {}
        for owner, name in enumerate(self._ownership.names):
            if num_samples := int(numbers["samples", ""][owner]):
                losses = {task: numbers["loss", task][owner] for task in tasks}
                right = {task: int(numbers["right", task][owner]) for task in tasks}
                counts = {task: int(numbers["labels", task][owner]) for task in tasks}
                is_one = tasks == [""]
                found[name] = Evaluation(
                    num_samples=num_samples,
                    num_correct=right[""] if is_one else None,
                    loss_sum=sum(losses.values()),
                    task_loss_sums={} if is_one else losses,
                    task_num_correct={} if is_one else right,
                    task_num_samples={} if is_one else counts,
                )
        return found


def _taken(values: Values, rows: Tensor) -> Values:
    return map_values(lambda value: value[rows], values)


def _of_batch(outputs: Values, y: Values, loss: Loss) -> Evaluation:
    if isinstance(loss, Task):
        return _of_task(outputs, y, loss)
    if isinstance(outputs, Tensor) and isinstance(y, Tensor):
        return _of_classes(outputs, y, loss)
    assert not isinstance(outputs, Tensor)
    assert not isinstance(y, Tensor)
    return _of_tasks(outputs, y)


def _of_task(output: Values, y: Values, task: Task) -> Evaluation:
    """Evaluate the run's task by its sums; samples with the right class are counted beside them where each has one."""
    num_samples = len(y if isinstance(y, Tensor) else next(iter(y.values())))
    sums = task.sums(output, y)
    right = int(sums["confusion"].diagonal().sum()) if task.kind == "classification" else None
    return Evaluation(num_samples=num_samples, num_correct=right, loss_sum=float(sums["loss"]), sums=sums)


def _has_classes(output: Tensor) -> bool:
    return output.ndim == 2 and output.shape[1] > 1  # one number per sample is an estimate of the target


def _of_classes(logits: Tensor, y: Tensor, loss: Loss) -> Evaluation:
    correct = int((logits.argmax(1) == y).sum()) if _has_classes(logits) else None
    return Evaluation(num_samples=len(y), num_correct=correct, loss_sum=float(loss(logits, y)) * len(y))


def _of_tasks(outputs: Mapping[str, Tensor], y: Mapping[str, Tensor]) -> Evaluation:
    """Evaluate tasks: class labels by cross-entropy, dense targets by their own losses.

    ``y`` may have more tasks than the model.
    """
    num_samples = len(next(iter(y.values())))
    has_labels = all(y[task].ndim == 1 for task in outputs)
    losses = joint.task_losses(outputs, y) if has_labels else task_losses(outputs, y)
    counts = {task: int(has_target(y[task]).sum()) for task in outputs}
    sums = {task: float(value) * counts[task] for task, value in losses.items()}
    right = {task: int((logits.argmax(1) == y[task]).sum()) for task, logits in outputs.items()} if has_labels else {}
    return Evaluation(
        num_samples=num_samples,
        num_correct=None,
        loss_sum=sum(sums.values()),
        task_loss_sums=sums,
        task_num_correct=right,
        task_num_samples=counts,
    )
