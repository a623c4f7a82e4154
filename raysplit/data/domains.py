"""Heterogeneous sources: what makes one owner's inputs or labels differ from another's.

A domain is a fixed map of the inputs of one owner that only that owner's bottom can undo; it keeps the tasks of
multi-task split learning different even where the class laws agree. ``with_domain`` puts it into a transform.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from raysplit.data.samples import Samples
from raysplit.data.transforms import ColourMap, Compose, Invert, PixelPermutation, Rotation, Transform
from raysplit.registry import one_of
from raysplit.seeding import derive, generator


def domain_names() -> list[str]:
    """The names that ``domain`` knows."""
    return list(DOMAINS)


def domain(name: str, *, owner: int, num_owners: int, num_channels: int, seed: int) -> Transform:
    """The map of owner ``owner``: the same for the same ``seed``, another for every owner where the kind has as many.

    Raises ``ValueError`` for an unknown name.
    """
    return DOMAINS[one_of("domain", name, DOMAINS)](owner, num_owners, num_channels, seed)


def _permutation(owner: int, num_owners: int, num_channels: int, seed: int) -> Transform:
    """Every owner has its own order of the pixels."""
    return PixelPermutation(seed=derive(seed, "domain", owner))


def _quarter_turns(owner: int, num_owners: int, num_channels: int, seed: int) -> Transform:
    """Owner n's images are turned by n mod 4 quarters."""
    return Rotation(angle_deg=90.0 * (owner % 4))


def _rotation(owner: int, num_owners: int, num_channels: int, seed: int) -> Transform:
    """The circle is divided evenly: owner n's images are turned by 360 n / N degrees."""
    return Rotation(angle_deg=360.0 * owner / num_owners)


def _colour(owner: int, num_owners: int, num_channels: int, seed: int) -> Transform:
    """Every owner mixes the channels by its own random non-negative matrix whose rows sum to 1."""
    if num_channels < 2:
        raise ValueError(
            f"domain colour mixes channels and the images have {num_channels}; take permutation or rotation"
        )
    rows = generator(seed, "domain", owner).dirichlet(np.ones(num_channels), size=num_channels)
    return ColourMap(matrix=tuple(tuple(row) for row in rows.tolist()))


def _invert(owner: int, num_owners: int, num_channels: int, seed: int) -> Transform:
    """Owners with an odd number see the negative."""
    return Invert() if owner % 2 else Compose(steps=())


DOMAINS: dict[str, Callable[[int, int, int, int], Transform]] = {
    "permutation": _permutation,
    "quarter_turns": _quarter_turns,
    "rotation": _rotation,
    "colour": _colour,
    "invert": _invert,
}


def flip_labels(samples: Samples, *, fraction: float, num_classes: int, seed: int, owner: int) -> Samples:
    """``samples`` with exactly round(``fraction`` N) labels, drawn at random, each changed to a uniform other class.

    Raises ``ValueError`` for a fraction outside 0..1, fewer than two classes, or labels of several tasks.
    """
    if not 0 <= fraction <= 1 or num_classes < 2 or not isinstance(samples.y, Tensor):
        raise ValueError(
            f"label noise of fraction {fraction} on {num_classes} classes: the fraction is 0 to 1, there are at least "
            f"2 classes and one label per sample"
        )
    draw = generator(seed, "label-noise", owner)
    chosen = torch.from_numpy(draw.permutation(len(samples))[: round(fraction * len(samples))])
    shift = torch.from_numpy(draw.integers(1, num_classes, size=len(chosen)))
    y = samples.y.clone()
    y[chosen] = (y[chosen] + shift) % num_classes
    return Samples(x=samples.x, y=y)
