"""What averaging the factors of adapters loses: the mean of products is not the product of means.

sum p B A - (sum p B)(sum p A) is the weighted covariance of B and A over the owners; it is zero where all owners have
the same A, as with FFA-LoRA, or the same B.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

Terms = tuple[float, float]
"""Squared Frobenius norms of the gap and of the mean product, over the adapters of a part."""


def gap_terms(
    states: Sequence[Mapping[str, Tensor]], weights: Sequence[float], mean: Mapping[str, Tensor]
) -> Terms | None:
    """Return the terms for the adapters in the states of a cohort and their mean; None if there are none.

    Args:
        states: states of the owners, in owner order.
        weights: their weights in the mean.
        mean: what became of them.
    """
    paths = [name.removesuffix(".lora_b") for name in mean if name.endswith(".lora_b")]
    paths = [path for path in paths if f"{path}.lora_a" in mean]
    if not paths:
        return None
    gap = whole = 0.0
    for path in paths:
        b, a = (mean[f"{path}.lora_{factor}"].double() for factor in "ba")
        product = torch.zeros(len(b), a.shape[1], dtype=torch.float64)
        for state, weight in zip(states, weights, strict=True):
            product.addmm_(state[f"{path}.lora_b"].double(), state[f"{path}.lora_a"].double(), alpha=weight)
        whole += float(product.square().sum())
        gap += float((product - b @ a).square().sum())
    return gap, whole


def relative_gap(terms: Iterable[Terms]) -> float:
    """Return the norm of the gap relative to that of the mean product, over all parts; 0 where all products are 0."""
    pairs = list(terms)
    whole = sum(pair[1] for pair in pairs)
    return math.sqrt(sum(pair[0] for pair in pairs) / whole) if whole else 0.0
