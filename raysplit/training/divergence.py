"""Gradient divergence: the distance between the owners' gradients of their own parts.

Huang, Tian, Tang (2023, arXiv 2308.11953) tie the convergence of the owners' side to it. With G_n the gradient of
owner n's mean loss at one common model, restricted to the owner's part, and G the mean weighted by data size p_n:

* raw = sum_n p_n |G_n - G|^2, which at a fixed model can only grow with a later cut (more coordinates),
* rms = sqrt(raw / dim), per parameter, comparable across cuts,
* rel = raw / |G|^2.

The metrics named ``batch`` are the same for the mean of the mini-batch gradients of each owner in the round.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import torch
from torch import Tensor

from raysplit.actors.records import RoundContext
from raysplit.algorithms.base import Algorithm
from raysplit.cluster.contract import gather
from raysplit.models.adapters.gap import relative_gap


def divergence(gradients: Sequence[Tensor], weights: Sequence[float]) -> dict[str, float]:
    """Compute raw, rms and rel from flat gradients [dim] and weights that sum to 1."""
    stacked = torch.stack([g.double() for g in gradients])  # [N, dim]
    p = torch.tensor(weights, dtype=torch.float64)
    mean = (p[:, None] * stacked).sum(0)
    raw = float((p * (stacked - mean).square().sum(1)).sum())
    norm = float(mean.square().sum())
    return {
        "divergence_raw": raw,
        "divergence_rms": sqrt(raw / max(1, mean.numel())),
        "divergence_rel": raw / norm if norm else 0.0,
    }


async def measure_divergence(algorithm: Algorithm) -> dict[str, float]:
    """Measure the divergence of all owners' full-batch gradients at the current global model."""
    models = algorithm.models()
    if "global" not in models:
        raise ValueError(
            f"evaluation.divergence_every compares owners at one common model and {algorithm.name} trains "
            f"{len(models)}; leave it out, or use an algorithm with one global model"
        )
    states: list[Any] = models["global"]
    owners = [name for name in algorithm.setting.owners if name in algorithm.handles]
    gradients = await gather(*[algorithm.handles[name].local_gradient(*states) for name in owners])
    total = sum(algorithm.setting.num_samples(name) for name in owners)
    return divergence(gradients, [algorithm.setting.num_samples(name) / total for name in owners])


async def measure_batch_divergence(algorithm: Algorithm, context: RoundContext) -> dict[str, float]:
    """Measure the divergence of the cohort's mean mini-batch gradients, in a round that recorded them."""
    gradients = await gather(*[algorithm.handles[name].mean_gradient() for name in context.cohort])
    figures = divergence(gradients, context.weights)
    return {name.replace("divergence", "divergence_batch"): value for name, value in figures.items()}


async def measure_lora_gap(algorithm: Algorithm) -> dict[str, float]:
    """Ask all parties that average what the round's averages of adapters lost; nothing where there are no adapters."""
    if algorithm.setting.spec.tuning.lora is None:
        return {}
    averaging = [p for p in algorithm.parties() if p.role in ("aggregator", "node") and hasattr(p.build, "lora_gap")]
    handles = [algorithm.handles[party.name] for party in averaging if party.name in algorithm.handles]
    found = await gather(*[handle.lora_gap() for handle in handles])
    terms = [(float(gap), float(whole)) for pair in found if pair is not None for gap, whole in [pair]]
    return {"lora_gap": relative_gap(terms)} if terms else {}


async def measure_round(algorithm: Algorithm, context: RoundContext) -> dict[str, Any]:
    """Measure what a round leaves: the divergence of gradients that owners recorded, and the gap of adapters."""
    batches = await measure_batch_divergence(algorithm, context) if context.record_gradients else {}
    return {**batches, **await measure_lora_gap(algorithm)}
