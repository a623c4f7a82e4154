"""Conversion of raw arrays and map-style sets to ``Samples``, with all checks of a user's data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysplit.data.inputs import Values
from raysplit.data.partition.stratify import stratified_split
from raysplit.data.samples import DataSet, Samples
from raysplit.data.transforms import Compose, Normalise, ToUnit, Transform

Array = npt.NDArray[Any]


def checked_inputs(x: Array, source: str) -> Tensor:
    """Convert inputs to a tensor; ``uint8`` images [N, H, W] or [N, H, W, 1|3] become [N, C, H, W].

    Other numbers become ``float32`` and keep their shape. Raises ``ValueError``, which names ``source``, for other
    types, NaN and infinity.
    """
    if x.ndim < 2 or x.dtype.kind not in "uifb":
        raise ValueError(
            f"{source}: x is {x.dtype} of shape {x.shape}; give numbers of shape [N, ...], one entry per sample"
        )
    if x.dtype == np.uint8:
        return torch.from_numpy(np.array(_channels_first(x), order="C"))
    values = np.array(x, np.float32)  # a copy, because an array from a file may be read-only
    if bad := np.count_nonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1)):
        raise ValueError(f"{source}: x has NaN or infinity in {bad} of {len(values)} samples; repair or drop them")
    return torch.from_numpy(values)


def checked_labels(y: Array, num_samples: int, source: str) -> Tensor:
    """Convert labels to int64 [N]. Raises ``ValueError`` for another length, fractions and negative labels."""
    if y.shape != (num_samples,):
        raise ValueError(f"{source}: y has shape {y.shape} and x has {num_samples} samples; give one label per sample")
    if y.dtype.kind not in "ui" and not (y.dtype.kind == "f" and np.isfinite(y).all() and (y % 1 == 0).all()):
        raise ValueError(f"{source}: y holds {y.dtype} values such as {y[:3].tolist()}; labels must be integers 0..C-1")
    if num_samples and y.min() < 0:
        raise ValueError(f"{source}: the smallest label is {y.min()}; labels must be integers 0..C-1")
    return torch.from_numpy(y.astype(np.int64))


def data_set_from_arrays(
    x: Array,
    y: Array,
    source: str,
    *,
    owner: Array | None = None,
    split: Array | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> DataSet:
    """Make a data set from an array of inputs and one of labels.

    Args:
        x: inputs [N, ...].
        y: class of each sample [N].
        source: name of the data in error messages.
        owner: id of the owner of each sample [N], for the partition ``natural_id`` and its owners' tests.
        split: "train" or "test" for each sample [N]; without it a fifth of every class becomes the test set.
        mean: mean per channel for normalization, given together with ``std``.
        std: standard deviation per channel for normalization.

    Raises:
        ValueError: for data that fail a check.
    """
    inputs = checked_inputs(x, source)
    samples = Samples(x=inputs, y=checked_labels(y, len(inputs), source))
    if owner is not None and owner.shape != (len(samples),):
        raise ValueError(
            f"{source}: owner has shape {owner.shape} and x has {len(samples)} samples; give one id per sample"
        )
    train, test = stratified_split(y) if split is None else _split_sides(split, len(samples), source)
    return data_set(
        samples.take(train),
        samples.take(test),
        transform=unit_and_normalise(mean, std),
        natural_owner=None if owner is None else owner[train],
        test_owner=None if owner is None else owner[test],
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
) -> DataSet:
    """Make a data set of samples with one label; ``num_classes`` is by default the largest label plus one."""
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
        num_classes=num_classes or int(torch.cat([train.y, test.y]).max()) + 1,
        transform=transform,
        eval_transform=eval_transform or transform,
        natural_owner=natural_owner,
        test_owner=test_owner,
    )


def samples_of(dataset: Any, source: str) -> Samples:
    """Read a map-style set of (input, class index) pairs into memory; PIL images become ``uint8`` [C, H, W].

    An input may be a mapping of several inputs by name. A tensor of integers, such as tokens, keeps its type; ``uint8``
    holds images. Raises ``ValueError`` when inputs differ in shape or names, or a label is not a class index.
    """
    if isinstance(dataset, Samples):
        return dataset
    pairs = [dataset[i] for i in range(len(dataset))]
    if any(not isinstance(pair, tuple | list) or len(pair) != 2 for pair in pairs):
        raise ValueError(f"{source}: an item is not a pair; every item of a map-style set must be (input, class index)")
    labels = [y.item() if isinstance(y, Tensor | np.generic) else y for _, y in pairs]
    x = _stacked_by_name([x for x, _ in pairs], source)
    if odd := [y for y in labels if not isinstance(y, int)]:
        raise ValueError(
            f"{source}: a label is {odd[0]!r} ({type(odd[0]).__name__}); labels must be class indices 0..C-1"
        )
    return Samples(x=x, y=checked_labels(np.array(labels, np.int64), len(pairs), source))


def _stacked_by_name(items: Sequence[Any], source: str) -> Values:
    """Stack the inputs of all items into one tensor, or into one tensor per name where items are mappings."""
    if not items or not isinstance(items[0], Mapping):
        return _stacked(items, source)
    names = list(items[0])
    if odd := [x for x in items if not isinstance(x, Mapping) or list(x) != names]:
        found = list(odd[0]) if isinstance(odd[0], Mapping) else type(odd[0]).__name__
        raise ValueError(f"{source}: an item has the inputs {found} and the first has {names}; give all the same")
    return {name: _stacked([x[name] for x in items], f"{source}: input {name!r}", named=True) for name in names}


def _stacked(values: Sequence[Any], source: str, *, named: bool = False) -> Tensor:
    """Stack one input of all items; integers keep their type if they are tensors or a named input."""
    arrays = [np.asarray(value) for value in values]
    if shapes := sorted({x.shape for x in arrays})[1:]:
        raise ValueError(
            f"{source}: inputs differ in shape, for example {arrays[0].shape} and {shapes[-1]}; "
            f"resize them to one shape (torchvision sets: option image_size)"
        )
    if not arrays:
        return torch.zeros(0, 1)
    stacked = np.stack(arrays)
    is_tensor = all(isinstance(value, Tensor) for value in values)
    if (stacked.dtype.kind == "i" and (named or is_tensor)) or (stacked.dtype.kind == "b" and named):
        return torch.from_numpy(stacked)
    return checked_inputs(stacked, source)


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


def _channels_first(x: Array) -> Array:
    if x.ndim == 3:
        return x[:, None]
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 and x.shape[3] in (1, 3) and x.shape[1] not in (1, 3) else x


def _split_sides(split: Array, num_samples: int, source: str) -> tuple[Array, Array]:
    if split.shape != (num_samples,):
        raise ValueError(
            f"{source}: split has shape {split.shape} and x has {num_samples} samples; give one value per sample"
        )
    sides = split.astype(str)
    if wrong := sorted(set(sides.tolist()) - {"train", "test"}):
        raise ValueError(f'{source}: split has {wrong[:3]}; every value must be "train" or "test"')
    train, test = np.flatnonzero(sides == "train"), np.flatnonzero(sides == "test")
    if not len(train) or not len(test):
        raise ValueError(
            f"{source}: split marks {len(train)} training and {len(test)} test samples; give both sides at least one"
        )
    return train, test
