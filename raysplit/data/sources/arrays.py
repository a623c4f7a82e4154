"""Data sets of raw arrays: labels, owners and sides are checked and joined with the inputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from raysplit.data.partition.stratify import TEST_FRACTION, stratified_split
from raysplit.data.reading import AS_FOUND, Reading, read_inputs
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sources.map_style import Side
from raysplit.data.targets.arrays import num_outputs, read_targets, said_of
from raysplit.data.transforms import Compose, Normalise, ToUnit, Transform

Array = npt.NDArray[Any]


def data_set_from_arrays(
    x: Array,
    y: Array,
    source: str,
    *,
    owner: Array | None = None,
    split: Array | None = None,
    test_fraction: float = TEST_FRACTION,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    reading: Reading = AS_FOUND,
) -> DataSet:
    """Make a data set from an array of inputs and one of labels.

    Args:
        x: inputs [N, ...].
        y: class of each sample [N].
        source: name of the data in error messages.
        owner: id of the owner of each sample [N], for the partition ``natural_id`` and its owners' tests.
        split: "train" or "test" for each sample [N]; without it a share of every class becomes the test set.
        test_fraction: this share.
        mean: mean per channel for normalization, given together with ``std``.
        std: standard deviation per channel for normalization.
        reading: what the arrays are, where their types do not say it.

    Raises:
        ValueError: for data that fail a check.
    """
    inputs = read_inputs(x, source, reading)
    size = len(inputs.values)
    if not size:
        raise ValueError(f"{source}: x has no samples; give some")
    labels = read_targets([y], [size], source, reading, owner)
    samples = Samples(x=inputs.values, y=labels.sides[0])
    if owner is not None:
        check_owners(owner, size, source)
    train, test = split_by_class(labels.sides[0], test_fraction) if split is None else split_sides(split, size, source)
    return data_set(
        samples.take(train),
        samples.take(test),
        transform=unit_and_normalise(mean, std),
        natural_owner=None if owner is None else owner[train],
        test_owner=None if owner is None else owner[test],
        label_names=labels.names,
        done=(inputs.done, *said_of([y], reading)),
        reading=reading,
    )


def data_set_of_sides(train: Side, test: Side, source: str, reading: Reading = AS_FOUND) -> DataSet:
    """Make a data set of two sides whose labels have not been numbered yet. Raises ``ValueError``."""
    for name, side in (("training", train), ("test", test)):
        if not len(side):
            raise ValueError(f"{source}: the {name} set is empty; give both sets at least one sample")
    if train.samples is not None and test.samples is not None and not reading.renumber_labels:
        return data_set(
            train.samples,
            test.samples,
            transform=unit_and_normalise(None, None),
            done=train.done,
            reading=replace(AS_FOUND, task=reading.task),
        )
    labels = read_targets([train.y, test.y], [len(train), len(test)], source, reading)
    return data_set(
        Samples(x=train.x, y=labels.sides[0]),
        Samples(x=test.x, y=labels.sides[1]),
        transform=unit_and_normalise(None, None),
        label_names=labels.names,
        done=tuple(dict.fromkeys((*train.done, *test.done, *said_of([train.y, test.y], reading)))),
        reading=reading,
    )


def data_set(
    train: Samples,
    test: Samples,
    *,
    transform: Transform,
    eval_transform: Transform | None = None,
    num_classes: int | None = None,
    natural_owner: Array | None = None,
    test_owner: Array | None = None,
    label_names: tuple[str, ...] | None = None,
    done: tuple[str, ...] = (),
    reading: Reading = AS_FOUND,
) -> DataSet:
    """Make a data set of samples; ``num_classes`` is by default the largest label plus one, see `num_outputs`."""
    shapes = _shapes(train), _shapes(test)
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"training inputs have shape {shapes[0]} and test inputs {shapes[1]}; give both the same shape"
        )
    assert isinstance(train.y, Tensor)
    assert isinstance(test.y, Tensor)
    return DataSet(
        train=train,
        test=test,
        num_classes=num_classes
        or num_outputs([train.y, test.y], reading.task, [train.x, test.x], reading.ignore_index),
        transform=transform,
        eval_transform=eval_transform or transform,
        natural_owner=natural_owner,
        test_owner=test_owner,
        label_names=label_names,
        done=done,
        reading=reading,
    )


def split_by_class(targets: Tensor, fraction: float) -> tuple[Array, Array]:
    """Hold out a share of every class, or of all samples where targets are no class labels."""
    is_label = targets.ndim == 1 and not targets.is_floating_point()
    return stratified_split(targets.numpy() if is_label else np.zeros(len(targets), np.int64), fraction=fraction)


def _shapes(samples: Samples) -> Any:
    """Return the shape of one sample, by name where there are several inputs."""
    if isinstance(samples.x, Tensor):
        return tuple(samples.x.shape[1:])
    return {name: tuple(value.shape[1:]) for name, value in samples.x.items()}


def unit_and_normalise(mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> Compose:
    """Return the transform from ``uint8`` to [0, 1], followed by normalization if ``mean`` and ``std`` are given.

    Raises ``ValueError`` when only one of the two is given.
    """
    if (mean is None) != (std is None):
        raise ValueError(f"mean is {mean} and std is {std}; give both or neither")
    if mean is None or std is None:
        return Compose(steps=(ToUnit(),))
    return Compose(steps=(ToUnit(), Normalise(mean=tuple(mean), std=tuple(std))))


def check_owners(owner: Array, num_samples: int, source: str) -> None:
    """Raise ``ValueError`` unless every sample has an owner."""
    if owner.shape != (num_samples,):
        raise ValueError(
            f"{source}: owner has shape {owner.shape} and x has {num_samples} samples; give one id per sample"
        )
    missing = np.array([value is None or value != value or value == "" for value in owner.tolist()], bool)
    if missing.any():
        raise ValueError(
            f"{source}: owner has no value in row {int(missing.argmax())}; say who holds each sample, or drop the row"
        )


def split_sides(split: Array, num_samples: int, source: str) -> tuple[Array, Array]:
    """Return the indices of the training and of the test samples by a column of "train" and "test"."""
    if split.shape != (num_samples,):
        raise ValueError(
            f"{source}: split has shape {split.shape} and x has {num_samples} samples; give one value per sample"
        )
    sides = split.astype(str)
    if wrong := sorted(set(sides.tolist()) - {"train", "test"}):
        row = int((sides == wrong[0]).argmax())
        raise ValueError(
            f'{source}: split has {wrong[:3]}, the first in row {row}; every value must be "train" or "test"'
        )
    train, test = np.flatnonzero(sides == "train"), np.flatnonzero(sides == "test")
    if not len(train) or not len(test):
        raise ValueError(
            f"{source}: split marks {len(train)} training and {len(test)} test samples; give both sides at least one"
        )
    return train, test
