"""What stands between an owner's part and the link: dropout, projection, clipping and noise on smashed data.

In this order: values are dropped, rows are projected onto a subspace, clipped there and given noise there, so that the
noise has as many numbers as the subspace. The result has the form of the smashed data and lies in the subspace; the
link sends its coordinates (`raysplit.cluster.codecs.linear`). Gradients come back through what was dropped and
clipped, and are projected; noise adds nothing to them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from raysplit.cluster.codecs.linear import basis
from raysplit.guards.noise.mechanisms import (
    Draws,
    clipped,
    dropped,
    joined,
    parted,
    with_gaussian,
    with_laplace,
    with_relative_noise,
)
from raysplit.guards.rules import PrivacyRules, SmashedNoise
from raysplit.guards.secret import Secret, rehearsal_secret

Tensors = Tensor | tuple[Tensor, ...]


Back = Callable[[Tensors], Tensors]
"""The map from the gradient of what has left to that of what the part has computed."""


def released(rules: PrivacyRules, z: Tensors, draws: Callable[[str], Draws], seed: int) -> tuple[Tensors, Back | None]:
    """Return smashed data [B, ...] as they leave an owner, and how gradients come back; None leaves them as they are.

    Args:
        rules: the guards.
        z: a tensor, or all that cross the cut.
        draws: function that returns the random numbers of a purpose, ``"dropout"`` or ``"z"``.
        seed: seed of the run, for the subspace.

    Raises:
        ValueError: tensors cross that are no real numbers, or have no row for each sample.
    """
    if not rules.guards_smashed:
        return z, None
    tensors = z if isinstance(z, tuple) else (z,)
    _require_rows(tensors)
    clip = None if rules.z is None else rules.z.clip
    changes_gradients = bool(rules.dropout) or clip is not None
    with torch.set_grad_enabled(changes_gradients):
        start = joined(tensors).requires_grad_(changes_gradients)
        rows = dropped(start, rules.dropout, draws("dropout")) if rules.dropout else start
        subspace = None if rules.project is None else basis(seed, rows.shape[1], rules.project)
        rows = rows if subspace is None else rows @ subspace.T
        end = rows if clip is None else clipped(rows, clip, _order(rules.z))
        end = end if subspace is None else end @ subspace
    rows = _noisy(rules.z, rows.detach(), draws)
    made = parted(rows if subspace is None else rows @ subspace, tensors)
    return _like(z, made), partial(_back, start, end) if changes_gradients else None


def _back(start: Tensor, end: Tensor, g: Tensors) -> Tensors:
    tensors = g if isinstance(g, tuple) else (g,)
    (rows,) = torch.autograd.grad(end, start, joined(tensors))
    return _like(g, parted(rows, tensors))


def _like(z: Tensors, made: tuple[Tensor, ...]) -> Tensors:
    return made if isinstance(z, tuple) else made[0]


def _order(rules: SmashedNoise | None) -> int:
    return 1 if rules is not None and rules.mechanism == "laplace" else 2


def _noisy(rules: SmashedNoise | None, rows: Tensor, draws: Callable[[str], Draws]) -> Tensor:
    if rules is None:
        return rows
    if rules.clip is None:
        return with_relative_noise(rows, rules.noise or 0.0, draws("z"))
    add = with_laplace if rules.mechanism == "laplace" else with_gaussian
    return add(rows, rules.clip, rules.sigma, draws("z"))


def _require_rows(tensors: tuple[Tensor, ...]) -> None:
    for tensor in tensors:
        if not tensor.is_floating_point() or tensor.ndim < 2 or len(tensor) != len(tensors[0]):
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ValueError(
                f"privacy guards rows of real numbers, one for each sample, and a {kind} tensor of shape "
                f"{list(tensor.shape)} crosses the cut; cut the model where only such rows cross"
            )


def defend(rules: PrivacyRules, z: Tensors, *, seed: int = 0, number: int = 0, secret: Secret | None = None) -> Tensors:
    """Return a batch of smashed data as an owner with these guards releases it, for attackers that adapt to them.

    Args:
        rules: the ``privacy`` section, such as ``PrivacyRules(z={"clip": 1, "noise": 0.5}, rehearsal=True)``.
        z: smashed data [B, ...], a tensor or all tensors that cross the cut; gradients do not pass.
        seed: seed of the run. It also gives the random numbers, unless ``secret`` does.
        number: number of the batch; equal numbers draw equal noise.
        secret: where random numbers come from instead.
    """
    source = secret or rehearsal_secret(seed, "attacker")
    return released(rules, z, lambda purpose: source.stream(f"defend {purpose}", 0, number), seed)[0]


@dataclass(frozen=True, kw_only=True)
class GuardAtCut:
    """The guards of smashed data at the cut of an evaluated model; their noise has the seed of the run."""

    rules: PrivacyRules
    seed: int = 0

    @property
    def mixes_rows(self) -> bool:
        """Whether the noise depends on all rows of a batch."""
        return self.rules.z is not None and self.rules.z.clip is None

    def __call__(self, z: Any, number: int) -> Any:
        """Return smashed data as they arrive behind the cut; ``number`` counts the batches of an evaluation."""
        source = rehearsal_secret(self.seed, "evaluation")
        made, _ = released(self.rules, z, lambda purpose: source.stream(f"evaluate {purpose}", 0, number), self.seed)
        return made
