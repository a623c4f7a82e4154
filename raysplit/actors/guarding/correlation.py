"""The distance correlation of inputs and smashed data, as a term of a loss (NoPeek).

Vepakomma et al., "NoPeek: Information leakage reduction to share activations in distributed deep learning" (2020, arXiv
2008.09161), with the bias-corrected form of Szekely and Rizzo (2014): the other one is near 1 for independent values
where a batch has fewer samples than a sample has numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

MIN_ROWS = 8
"""The smallest batch that has a correlation."""
_LEAST = 1e-9


def correlation(x: Tensor, z: Tensor) -> Tensor:
    """Return the distance correlation [] of the rows of two tensors [B, ...], at least 3e-5; B is 5 or more."""
    a, b = _centred(_distances(x)), _centred(_distances(z))
    spread = torch.sqrt((a * a).sum() * (b * b).sum())
    squared = (a * b).sum() / spread if spread > 0 else spread
    return torch.sqrt(squared.clamp(min=_LEAST))


def _distances(values: Tensor) -> Tensor:
    rows = values.reshape(len(values), -1).double()
    return torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")


def _centred(distances: Tensor) -> Tensor:
    n = len(distances)
    sums = distances.sum(0)
    centred = distances - sums[:, None] / (n - 2) - sums[None, :] / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
    return centred * (1 - torch.eye(n, dtype=centred.dtype, device=centred.device))
