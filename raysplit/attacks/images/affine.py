"""Ridge regression from smashed data to samples: seconds, exact where the owner's part is affine and loses nothing.

It is the baseline that a trained decoder has to beat. The penalty is chosen on a quarter of the attacker's samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from raysplit.attacks.networks import Encode

_MOST_ROWS = 1500
_PENALTIES = (1e-12, 1e-6, 1e-4, 1e-2, 1.0)  # in proportion to the mean eigenvalue


def inverse_affine(encode: Encode, z: Tensor, aux: Tensor) -> Tensor:
    """Return reconstructions [n, ...] of the samples behind ``z`` [n, ...]; arguments as of `inverse`."""
    aux = aux[:_MOST_ROWS]
    with torch.no_grad():
        seen = encode(aux).flatten(1).double()
    x, wanted = aux.flatten(1).double(), z.flatten(1).double()
    held = max(1, len(x) // 4)
    errors = [
        float((guess - x[:held]).square().sum()) for guess in _ridge(seen[held:], x[held:], seen[:held], _PENALTIES)
    ]
    best = _PENALTIES[errors.index(min(errors))]
    (guess,) = _ridge(seen, x, wanted, (best,))
    return guess.clamp(0, 1).to(aux.dtype).view(len(z), *aux.shape[1:])


def _ridge(z: Tensor, x: Tensor, at: Tensor, penalties: tuple[float, ...]) -> list[Tensor]:
    """Regress ``x`` on ``z``, each less its mean, and return the values at ``at`` for each penalty."""
    mean_z, mean_x = z.mean(dim=0), x.mean(dim=0)
    z, x, at = z - mean_z, x - mean_x, at - mean_z
    wide = z.shape[1] > len(z)
    values, vectors = torch.linalg.eigh(z @ z.T if wide else z.T @ z)
    right = vectors.T @ x if wide else vectors.T @ (z.T @ x)
    left = at @ z.T @ vectors if wide else at @ vectors
    floor = values.clamp(min=0).mean()
    kept = values > values.max() * 1e-13
    shrunk = [kept / (values + penalty * floor).clamp(min=1e-300) for penalty in penalties]
    return [left @ (by[:, None] * right) + mean_x for by in shrunk]
