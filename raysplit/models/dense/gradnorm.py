"""GradNorm at the shared representation, task weights that make all tasks learn at a similar rate.

Chen et al., "GradNorm", ICML 2018, arXiv 1711.02257, in the form used as a baseline by Zhuang et al. (MAS, ICCV 2023,
arXiv 2307.11285): g_i is the gradient of task i at the representation and G_i = w_i * |g_i|, with the target
mean(G) * r_i^1.5 for the relative inverse training rate r_i. Weights move by 0.01 % toward the target and keep the sum
n.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from raysplit.data.labels import has_target
from raysplit.models.backward import backward as backward_from
from raysplit.models.dense.losses import Loss
from raysplit.models.dense.net import MultiTaskModel

ALPHA = 1.5
NUDGE = 1e-4
NUM_WARM_UP_CALLS = 200
_TINY = 1e-8


@dataclass(frozen=True, kw_only=True)
class GradNormState:
    """Weights by task, whose sum is the number of tasks, initial losses by task, and the number of calls so far."""

    weights: Mapping[str, float]
    initial_losses: Mapping[str, float]
    num_calls: int


def start(tasks: tuple[str, ...]) -> GradNormState:
    """Return the first state: all weights 1; the first calls set the initial losses."""
    return GradNormState(weights=dict.fromkeys(tasks, 1.0), initial_losses={}, num_calls=0)


def update(state: GradNormState, losses: Mapping[str, float], norms: Mapping[str, float]) -> GradNormState:
    """Return the state after one batch with these losses and gradient norms of the tasks."""
    if state.num_calls < NUM_WARM_UP_CALLS:
        state = replace(state, initial_losses=dict(losses))
    num_tasks = len(state.weights)
    ratios = {task: losses[task] / max(state.initial_losses[task], _TINY) for task in state.weights}
    mean_ratio = max(sum(ratios.values()) / num_tasks, _TINY)
    weighted = {task: max(weight * norms[task], _TINY) for task, weight in state.weights.items()}
    mean_norm = sum(weighted.values()) / num_tasks
    wanted = {task: mean_norm * (ratios[task] / mean_ratio) ** ALPHA / weighted[task] for task in state.weights}
    scale = num_tasks / sum(wanted.values())
    nudged = {
        task: weight * (1 + NUDGE if weight < wanted[task] * scale else 1 - NUDGE)
        for task, weight in state.weights.items()
    }
    total = sum(nudged.values())
    weights = {task: weight * num_tasks / total for task, weight in nudged.items()}
    return replace(state, weights=weights, num_calls=state.num_calls + 1)


def backward(
    model: MultiTaskModel, x: Tensor, targets: Mapping[str, Tensor], losses: Mapping[str, Loss], state: GradNormState
) -> tuple[dict[str, float], GradNormState]:
    """Add the gradients of one batch to the parameters, and return the losses and the next state.

    Decoders get their plain gradients, the encoder gets (1/sqrt n) * sum_i w_i g_i with the updated weights.
    """
    z = model.encoder(x)
    gradients: dict[str, Tensor] = {}
    values: dict[str, float] = {}
    for task in model.tasks:
        copy = z.detach().requires_grad_()
        loss = losses[task](model.decoders[task](copy), targets[task])
        torch.autograd.backward(loss)
        assert copy.grad is not None
        gradients[task], values[task] = copy.grad, float(loss.detach())
    if all(
        bool(has_target(targets[task]).any()) for task in model.tasks
    ):  # a task without targets has no loss to weigh
        state = update(state, values, {task: float(gradient.norm()) for task, gradient in gradients.items()})
    joint = torch.stack([state.weights[task] * gradients[task] for task in model.tasks]).sum(dim=0)
    backward_from([z], [joint / math.sqrt(len(model.tasks))])
    return values, state
