"""Domains and label noise: what makes the inputs or labels of one owner differ from those of another.

A domain is a fixed map of the inputs of one owner, which only the bottom part of that owner can undo. It keeps the
tasks of multi-task split learning different where the owners' class distributions agree. ``with_domain`` inserts a
domain into a transform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from raysplit.data.labels import has_target
from raysplit.data.samples import Samples
from raysplit.data.transforms import ColourMap, Compose, Invert, PixelPermutation, Rotation, Transform
from raysplit.registry import one_of
from raysplit.seeding import derive, generator


def domain_names() -> list[str]:
    """Return the names that ``domain`` knows."""
    return list(DOMAINS)


def domain(name: str, *, owner: int, num_owners: int, num_channels: int, seed: int) -> Transform:
    """Return the domain of one owner, a transform of images in the unit range.

    Args:
        name: one of ``domain_names``.
        owner: number of the owner, from 0.
        num_owners: number of owners N.
        num_channels: channels of the images.
        seed: seed of the random domains; equal seeds give equal domains.

    Raises:
        ValueError: for an unknown name, or images of one channel for ``colour``.
    """
    return DOMAINS[one_of("domain", name, DOMAINS)](owner, num_owners, num_channels, seed)


def _permutation(owner: int, num_owners: int, num_channels: int, seed: int) -> Transform:
    """A pixel permutation of each owner's own."""
    return PixelPermutation(seed=derive(seed, "domain", owner))


def _quarter_turns(owner: int, num_owners: int, num_channels: int, seed: int) -> Transform:
    """A rotation by n mod 4 quarter turns for owner n."""
    return Rotation(angle_deg=90.0 * (owner % 4))


def _rotation(owner: int, num_owners: int, num_channels: int, seed: int) -> Transform:
    """A rotation by 360 n / N degrees for owner n."""
    return Rotation(angle_deg=360.0 * owner / num_owners)


def _colour(owner: int, num_owners: int, num_channels: int, seed: int) -> Transform:
    """A mix of the channels by each owner's own random non-negative matrix whose rows sum to 1."""
    if num_channels < 2:
        raise ValueError(
            f"owners.domain colour mixes channels and the images have {num_channels}; use images of several channels, "
            f"or the domain permutation or rotation"
        )
    rows = generator(seed, "domain", owner).dirichlet(np.ones(num_channels), size=num_channels)
    return ColourMap(matrix=tuple(tuple(row) for row in rows.tolist()))


def _invert(owner: int, num_owners: int, num_channels: int, seed: int) -> Transform:
    """The negative of the image for owners with an odd number."""
    return Invert() if owner % 2 else Compose(steps=())


DOMAINS: dict[str, Callable[[int, int, int, int], Transform]] = {
    "permutation": _permutation,
    "quarter_turns": _quarter_turns,
    "rotation": _rotation,
    "colour": _colour,
    "invert": _invert,
}


def flip_labels(
    samples: Samples, *, fraction: float, num_classes: int | Mapping[str, int], seed: int, owner: int
) -> Samples:
    """Return ``samples`` [N] with exactly round(``fraction`` N) labels changed to another class, in each task.

    The samples are drawn without replacement among those that have a label, and each new label uniformly from the other
    classes.

    Args:
        samples: samples with one class label each, or one per task.
        fraction: share of the labels to change.
        num_classes: number of classes, or that of each task.
        seed: seed of the random streams.
        owner: number of the owner, from 0.

    Raises:
        ValueError: for a fraction outside 0..1 and fewer than two classes.
    """
    if isinstance(samples.y, Tensor):
        assert isinstance(num_classes, int), "one number of classes for one label per sample"
        y: Tensor | dict[str, Tensor] = _flipped(
            samples.y, fraction, num_classes, generator(seed, "label-noise", owner)
        )
    else:
        assert isinstance(num_classes, Mapping), "a number of classes for each task"
        y = {
            task: _flipped(labels, fraction, num_classes[task], generator(seed, "label-noise", owner, task))
            for task, labels in samples.y.items()
        }
    return replace(samples, y=y)


def _flipped(labels: Tensor, fraction: float, num_classes: int, draw: np.random.Generator) -> Tensor:
    if not 0 <= fraction <= 1 or num_classes < 2:
        raise ValueError(
            f"label noise cannot flip a fraction {fraction} of labels of {num_classes} classes; give a fraction from "
            f"0 to 1, and data with at least 2 classes"
        )
    rows = has_target(labels).nonzero()[:, 0]
    chosen = rows[torch.from_numpy(draw.permutation(len(rows))[: round(fraction * len(rows))])]
    shift = torch.from_numpy(draw.integers(1, num_classes, size=len(chosen)))
    y = labels.clone()
    y[chosen] = (y[chosen] + shift) % num_classes
    return y
