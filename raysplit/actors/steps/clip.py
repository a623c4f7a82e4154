"""Clipping of gradients by the norm of a whole model, also of one whose parts are at several parties.

``torch.nn.utils.clip_grad_norm_`` takes the norm of every tensor, and then the norm of the vector of these norms. Parts
that send the norms of their tensors, in the model's own order of weights, reach the same number in bits; sums of
squares, one per part, would not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn

from raysplit.actors.records import NonFiniteNorm, StepId
from raysplit.models.spec import ModelSpec
from raysplit.models.state_entries import parameters_of

_NO_GRADIENT = -1.0  # in the place of a norm, which is never negative


def trained_parameters(module: nn.Module) -> list[nn.Parameter]:
    """Return the weights that are trained, each once, in the module's order."""
    return [p for p in parameters_of(module) if p.requires_grad]


def norms_of(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Return the norms [T] of the gradients of T weights; -1 for a weight without one."""
    norms = [_NO_GRADIENT if p.grad is None else torch.linalg.vector_norm(p.grad) for p in parameters]
    dtype = next((norm.dtype for norm in norms if isinstance(norm, Tensor)), torch.float32)
    found = [torch.as_tensor(norm, dtype=dtype).cpu() for norm in norms]
    return torch.stack(found) if found else torch.zeros(0, dtype=dtype)


def coefficient(step_id: StepId, norms: Tensor, max_norm: float) -> Tensor:
    """Return the factor [] on all gradients, from the norms [T] of all tensors of the model in its order.

    Raises:
        NonFiniteNorm: if the norm of the model is NaN or infinite.
    """
    total = torch.linalg.vector_norm(norms[~(norms < 0)])  # NaN stays in, and is refused
    if not math.isfinite(float(total)):
        raise NonFiniteNorm(step_id.owner, step_id.round, step_id.step, float(total))
    return torch.clamp(max_norm / (total + 1e-6), max=1.0)


def own_coefficient(step_id: StepId, max_norm: float, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the factor [] on the gradients of a part that is clipped by itself. Raises `NonFiniteNorm`."""
    return coefficient(step_id, norms_of(parameters), max_norm)


def scale_gradients(parameters: Sequence[nn.Parameter], factor: Tensor) -> None:
    """Multiply the gradients of these weights by a factor []."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.mul_(factor.to(parameter.grad.device))


def in_model_order(spec: ModelSpec, cuts: tuple[int | str, ...], norms: Mapping[int, Tensor]) -> Tensor:
    """Put the norms of all parts, by number of the part, into the order of the weights of the uncut model."""
    joined = torch.cat([norms[index] for index in sorted(norms)])
    return joined[_order(spec, cuts)]


@lru_cache(maxsize=8)
def _order(spec: ModelSpec, cuts: tuple[int | str, ...]) -> Tensor:
    """Return, for each trained weight of the uncut model in its order, its place among those of the parts joined."""
    (whole,) = spec.part_outlines(())
    names = [name for part in spec.part_outlines(cuts) for name, p in part.named_parameters() if p.requires_grad]
    place = {name: number for number, name in enumerate(names)}
    return torch.tensor([place[name] for name, p in whole.named_parameters() if p.requires_grad], dtype=torch.long)
