"""Salt-and-pepper noise of two kinds, drawn again for every batch.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982) add noise to 3D Shapes on every access. Their published code
compares a *normal* draw with 0.08 and 0.92, so only 29 % of the values survive; the textbook draw is uniform.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from raysplit.data.transforms import Compose, ToUnit, Transform

PEPPER, SALT = 0.02, 0.98


@dataclass(frozen=True, kw_only=True)
class NormalDrawNoise:
    """Noise with a standard normal r per value: r <= threshold gives 0.98, r >= 1 - threshold gives 0.02."""

    threshold: float

    def __call__(self, x: Tensor, gen: torch.Generator) -> Tensor:
        r = torch.randn(x.shape, generator=gen, device=gen.device).to(x.device)
        salted = torch.where(r <= self.threshold, SALT, x)
        return torch.where(r >= 1 - self.threshold, PEPPER, salted)


@dataclass(frozen=True, kw_only=True)
class UniformDrawNoise:
    """Noise that sets a value to 0 with probability / 2 and to 1 with probability / 2."""

    probability: float

    def __call__(self, x: Tensor, gen: torch.Generator) -> Tensor:
        r = torch.rand(x.shape, generator=gen, device=gen.device).to(x.device)
        peppered = torch.where(r < self.probability / 2, 0.0, x)
        return torch.where(r >= 1 - self.probability / 2, 1.0, peppered)


def unit_pixels(noise: str | None) -> Transform:
    """Return the transform from bytes to 0..1, followed by the noise of that name if one is given."""
    return Compose(steps=(ToUnit(), noise_named(noise))) if noise else ToUnit()


def noise_named(name: str) -> Transform:
    """Return the noise of a name: `gauss_0.08` has threshold 0.08, `uniform_0.05` probability 0.05.

    Raises:
        ValueError: for another name, a threshold outside 0..0.5 or a probability outside 0..1.
    """
    found = re.fullmatch(r"(gauss|uniform)_(\d*\.?\d+)", name)
    if found is None:
        raise ValueError(f'unknown noise {name!r}; give "gauss_" and a threshold or "uniform_" and a probability')
    strength = float(found[2])
    if strength > (0.5 if found[1] == "gauss" else 1.0):
        raise ValueError(f"noise {name!r} is too strong; a threshold is at most 0.5, a probability at most 1")
    if found[1] == "gauss":
        return NormalDrawNoise(threshold=strength)
    return UniformDrawNoise(probability=strength)
