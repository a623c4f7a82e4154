"""The affinity of two tasks: the effect of a step for one on the loss of the other, measured on one batch.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285, after Fifty et al., NeurIPS 2021, arXiv 2109.04617:
theta_s'(i) = theta_s - lr * (g_i + weight_decay * theta_s) moves the shared encoder alone, g_i being its gradient of
loss L_i as trained (1/sqrt n included); then S[i][j] = (1 - L_j(theta_s'(i)) / L_j(theta_s)) / lr.
The look-ahead step uses substitute parameters; the model's own are never written.

Two cheaper measures take the gradients alone, one backward pass for each task. The inner product is the first order of
the look-ahead in lr: S[i][j] = (g_i + weight_decay * theta_s) . g_j / L_j. The cosine is that of g_i and g_j. The
cheapest takes one forward pass: the correlation of the losses of tasks i and j over the samples of the batch, or
whether both find the same samples hard.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.func import functional_call

from raysplit.data.labels import has_target
from raysplit.models.dense.losses import Loss
from raysplit.models.dense.net import MultiTaskModel
from raysplit.schedulers.grouping.scores import Affinity

Measure = Literal["lookahead", "inner_product", "cosine", "loss_correlation"]


@dataclass(frozen=True, kw_only=True)
class AffinityRule:
    """The rule of measuring affinities.

    Attributes:
        every: batches from one measurement to the next within an owner's round, which measures on its first batch.
        by: the measure: `measure`, one of `measure_gradients`, or `correlate_losses`.
        normalise_by_lr, freeze_running_statistics: see `measure`.
    """

    every: int = 10
    by: Measure = "lookahead"
    normalise_by_lr: bool = True
    freeze_running_statistics: bool = True

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"affinity_every is {self.every}; it counts batches, so give 1 or more")


def measure(
    model: MultiTaskModel,
    x: Tensor,
    targets: Mapping[str, Tensor],
    losses: Mapping[str, Loss],
    *,
    lr: float,
    weight_decay: float = 1e-4,
    normalise_by_lr: bool = True,
    freeze_running_statistics: bool = True,
) -> Affinity:
    """Measure the affinities of all tasks of a model on one batch.

    Parameters, gradients and torch's random state stay the same, bit for bit. A task whose loss is 0 cannot gain, so
    its column is 0.

    Args:
        x: the inputs [B, ...].
        targets: the targets by task.
        losses: the loss functions by task.
        lr: learning rate of the look-ahead step.
        weight_decay: weight decay of the look-ahead step.
        normalise_by_lr: whether to divide the gains by ``lr``.
        freeze_running_statistics: whether buffers stay the same too; if not, batch norm sees each of the n look-ahead
            passes, as in the published code.

    Returns:
        The affinities, with the source task in the row and the recipient in the column.

    Raises:
        FloatingPointError: if a loss is not finite.
    """
    parameters = {f"encoder.{name}": p for name, p in model.encoder.named_parameters() if p.requires_grad}
    num_tasks = len(model.tasks)
    with torch.random.fork_rng(devices=[]):
        random_state = torch.random.get_rng_state()  # the same dropout masks in every pass
        outputs = functional_call(model, _copied_buffers(model), (x,))
        values = {task: losses[task](outputs[task], targets[task]) for task in model.tasks}  # L_j(theta_s)
        rows = []
        for number, source in enumerate(model.tasks):
            gradients = torch.autograd.grad(
                values[source],
                list(parameters.values()),
                retain_graph=number < num_tasks - 1,
                materialize_grads=True,
            )
            with torch.no_grad():
                moved = {  # theta_s'(i)
                    name: p - lr * (gradient + weight_decay * p)
                    for (name, p), gradient in zip(parameters.items(), gradients, strict=True)
                }
                torch.random.set_rng_state(random_state)
                buffers = _copied_buffers(model) if freeze_running_statistics else {}
                ahead = functional_call(model, moved | buffers, (x,))
                after = torch.stack([losses[task](ahead[task], targets[task]).double() for task in model.tasks])
                before = torch.stack([values[task].detach().double() for task in model.tasks])
                gain = torch.where(before == 0, 0.0, 1 - after / before)
            if not gain.isfinite().all():
                raise FloatingPointError(f"a look-ahead step for task {source} gives the losses {after.tolist()}")
            rows.append(tuple((gain / lr if normalise_by_lr else gain).tolist()))
    return Affinity(tasks=model.tasks, values=tuple(rows))


def measure_gradients(
    model: MultiTaskModel,
    x: Tensor,
    targets: Mapping[str, Tensor],
    losses: Mapping[str, Loss],
    *,
    weight_decay: float = 1e-4,
    cosine: bool = False,
) -> Affinity:
    """Measure the affinities of all tasks of a model on one batch by the gradients of its encoder.

    Parameters, gradients, buffers and torch's random state stay the same, bit for bit. A task whose loss is 0, or with
    ``cosine`` whose gradient is 0, has the affinity 0 with all others.

    Args:
        model, x, targets, losses, weight_decay: as for `measure`.
        cosine: whether to take the cosine of the gradients instead of their inner product over the recipient's loss.

    Raises:
        FloatingPointError: if an affinity is not finite.
    """
    parameters = [p for p in model.encoder.parameters() if p.requires_grad]
    with torch.random.fork_rng(devices=[]):
        outputs = functional_call(model, _copied_buffers(model), (x,))
        values = [losses[task](outputs[task], targets[task]) for task in model.tasks]
    rows = []
    for number, value in enumerate(values):
        found = torch.autograd.grad(value, parameters, retain_graph=number < len(values) - 1, materialize_grads=True)
        rows.append(torch.cat([g.flatten() for g in found]).double())
    gradients = torch.stack(rows)  # [n, parameters of the encoder]
    with torch.no_grad():
        if cosine:
            norms = gradients.norm(dim=1)
            products, scale = gradients @ gradients.T, norms[:, None] * norms[None, :]
        else:
            theta = torch.cat([p.flatten() for p in parameters]).double()
            plain = len(values) ** 0.5 * gradients  # gradients as trained carry 1/sqrt n, see `MultiTaskModel`
            products = (gradients + weight_decay * theta) @ plain.T
            scale = torch.stack([value.detach().double() for value in values]).expand(len(values), -1)
        affinity = torch.where(scale == 0, 0.0, products / scale)
    if not affinity.isfinite().all():
        raise FloatingPointError(f"the gradients of the tasks {', '.join(model.tasks)} give {affinity.tolist()}")
    return Affinity(tasks=model.tasks, values=tuple(tuple(row) for row in affinity.tolist()))


def correlate_losses(
    model: MultiTaskModel, x: Tensor, targets: Mapping[str, Tensor], losses: Mapping[str, Loss]
) -> Affinity:
    """Measure the affinities of all tasks of a model on one batch by Pearson's correlation of their losses.

    Parameters, buffers and torch's random state stay the same, bit for bit. A pair of tasks is correlated over the
    samples that have a target for both; where one of the losses is the same for all of them, the affinity is 0.

    Args:
        model, x, targets, losses: as for `measure`.

    Raises:
        FloatingPointError: if a loss is not finite.
    """
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        outputs = functional_call(model, _copied_buffers(model), (x,))
        rows = {
            task: zip(torch.split(outputs[task], 1), torch.split(targets[task], 1), strict=True) for task in model.tasks
        }
        values = torch.stack(
            [torch.stack([losses[task](*row).double() for row in rows[task]]) for task in model.tasks]
        ).cpu()  # [n, B]
    if not values.isfinite().all():
        raise FloatingPointError(f"the tasks {', '.join(model.tasks)} have losses that are not finite")
    there = torch.stack([has_target(targets[task]) for task in model.tasks]).cpu()  # [n, B]
    return Affinity(
        tasks=model.tasks,
        values=tuple(
            tuple(_correlation(a[both := there_a & there_b], b[both]) for b, there_b in zip(values, there, strict=True))
            for a, there_a in zip(values, there, strict=True)
        ),
    )


def _correlation(a: Tensor, b: Tensor) -> float:
    """Return Pearson's correlation of two vectors; 0 where one of them is constant or empty."""
    if not len(a) or bool((a == a[0]).all()) or bool((b == b[0]).all()):
        return 0.0
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def _copied_buffers(model: MultiTaskModel) -> dict[str, Tensor]:
    """Copy all buffers, so that a forward pass writes to the copies."""
    return {name: buffer.clone() for name, buffer in model.named_buffers()}
