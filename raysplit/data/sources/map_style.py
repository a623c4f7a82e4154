"""Sides of a data set that a user made: `Samples`, pairs of arrays, or map-style sets of (input, label) pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from raysplit.data.failures import described
from raysplit.data.inputs import Values
from raysplit.data.reading import AS_FOUND, Reading, read_inputs
from raysplit.data.samples import Samples

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """Inputs of the training or the test side, the labels as they came, and in words what was done with the inputs.

    ``samples`` are these, where a user gave `Samples`.
    """

    x: Values
    y: Array
    done: tuple[str, ...] = ()
    samples: Samples | None = None

    def __len__(self) -> int:
        return len(self.x if isinstance(self.x, Tensor) else next(iter(self.x.values())))


def side_of(value: Any, source: str, reading: Reading = AS_FOUND) -> Side:
    """Read one side into memory: `Samples`, a pair of arrays (x, y), or a map-style set of (input, label) pairs.

    PIL images become ``uint8`` [C, H, W]. An input may be a mapping of several inputs by name. A tensor of integers,
    such as tokens, keeps its type.

    Raises:
        ValueError: for anything else (a loader, a generator, None), an item that is no pair or that the set cannot
            give, inputs that differ in shape or names, and labels that are not one number or text each.
    """
    if isinstance(value, Samples):
        if not isinstance(value.y, Tensor):
            raise ValueError(
                f"{source}: the samples have a target for each of the tasks {', '.join(value.y)}; return a DataSet, "
                f"which can say which classes each task has"
            )
        return Side(x=value.x, y=value.y.detach().numpy(), done=("x: Samples, kept as they were given",), samples=value)
    if isinstance(value, tuple | list) and len(value) == 2 and all(is_array(item) for item in value):
        inputs = read_inputs(np.asarray(value[0]), source, reading)
        return Side(x=inputs.values, y=np.asarray(value[1]), done=(inputs.done,))
    pairs = _items(value, source)
    x, done = _stacked_by_name([x for x, _ in pairs], source, reading)
    return Side(x=x, y=_labels([y for _, y in pairs], source, reading.task), done=done)


def is_array(value: Any) -> bool:
    """Return whether a value is an array or a tensor."""
    return isinstance(value, np.ndarray | Tensor)


_WANTED = "give a map-style set of (input, class index) pairs, with __len__ and __getitem__, or a pair of arrays (x, y)"


def _items(value: Any, source: str) -> list[Any]:
    """Return all items of a map-style set, each a pair."""
    if isinstance(value, DataLoader):
        raise ValueError(f"{source}: a side is a DataLoader, which has batches; give the set in it, loader.dataset")
    if (
        isinstance(value, str | bytes | Mapping | IterableDataset)
        or is_array(value)
        or not (hasattr(value, "__len__") and hasattr(value, "__getitem__"))
    ):
        raise ValueError(f"{source}: a side is {_kind(value)}; {_WANTED}")
    items = []
    for i in range(len(value)):
        try:
            items.append(value[i])
        except Exception as error:
            raise ValueError(f"{source}: item {i} cannot be read: {described(error)}; repair it, or drop it") from error
        if not isinstance(items[i], tuple | list) or len(items[i]) != 2:
            raise ValueError(f"{source}: an item is not a pair: item {i} is {_kind(items[i])}; {_WANTED}")
    return items


def _labels(labels: Sequence[Any], source: str, task: str | None) -> Array:
    plain: list[Any] = []
    for i, y in enumerate(labels):
        label = y.item() if isinstance(y, np.generic) or (is_array(y) and _size(y) == 1) else y
        if not isinstance(label, int | float | str) and not is_array(label):
            raise ValueError(
                f"{source}: a label is {_kind(y)} (item {i}); labels must be class indices 0..C-1, one per sample, or "
                f"numbers and arrays for another task"
            )
        plain.append(label)
    if not plain:
        return np.zeros(0, np.int64)
    if any(is_array(label) for label in plain):
        return _stacked_targets(plain, source)
    texts = sum(isinstance(label, str) for label in plain)
    if texts not in (0, len(plain)):
        raise ValueError(f"{source}: {texts} of {len(plain)} labels are text and the others numbers; give one kind")
    has_fractions = any(isinstance(label, float) for label in plain)
    if has_fractions and task is None and all(label % 1 == 0 for label in plain):
        i = next(i for i, label in enumerate(plain) if isinstance(label, float))
        raise ValueError(
            f"{source}: a label is {_kind(labels[i])} (item {i}); labels must be class indices 0..C-1, one per sample, "
            f"and numbers to estimate need task: regression"
        )
    return np.array(plain, None if texts else np.float32 if has_fractions else np.int64)


def _stacked_targets(targets: Sequence[Any], source: str) -> Array:
    """Stack targets of several numbers each, such as masks. Raises ``ValueError`` where they differ in shape."""
    arrays = [np.asarray(target) for target in targets]
    odd = next((i for i, y in enumerate(arrays) if y.shape != arrays[0].shape), None)
    if odd is not None:
        raise ValueError(
            f"{source}: the target of item 0 has the shape {arrays[0].shape} and that of item {odd} "
            f"{arrays[odd].shape}; give all targets one shape"
        )
    return np.stack(arrays)


def _size(value: Any) -> int:
    return int(value.numel() if isinstance(value, Tensor) else value.size)


def _stacked_by_name(items: Sequence[Any], source: str, reading: Reading) -> tuple[Values, tuple[str, ...]]:
    """Stack the inputs of all items into one tensor, or into one tensor per name where items are mappings."""
    if not items or not isinstance(items[0], Mapping):
        values, done = _stacked(items, source, reading)
        return values, (done,)
    names = list(items[0])
    if odd := [x for x in items if not isinstance(x, Mapping) or list(x) != names]:
        found = list(odd[0]) if isinstance(odd[0], Mapping) else type(odd[0]).__name__
        raise ValueError(f"{source}: an item has the inputs {found} and the first has {names}; give all the same")
    if given := reading.named():
        key, value = next(iter(given.items()))
        raise ValueError(
            f"{source}: {key} is {value} and there are the inputs {', '.join(names)}, which say by their "
            f"types what they are; leave it out"
        )
    stacked = {
        name: _stacked([x[name] for x in items], f"{source}: input {name!r}", reading, name=name) for name in names
    }
    return {name: values for name, (values, _) in stacked.items()}, tuple(done for _, done in stacked.values())


def _stacked(values: Sequence[Any], source: str, reading: Reading, *, name: str | None = None) -> tuple[Tensor, str]:
    """Stack one input of all items; integers keep their type if they are tensors or a named input."""
    arrays = [np.asarray(value) for value in values]
    if shapes := sorted({x.shape for x in arrays})[1:]:
        raise ValueError(
            f"{source}: inputs differ in shape, for example {arrays[0].shape} and {shapes[-1]}; "
            f"resize them to one shape (torchvision sets: option image_size)"
        )
    if not arrays:
        return torch.zeros(0, 1), ""
    stacked = np.stack(arrays)
    shown = f"{name or 'x'}: {stacked.dtype} {list(stacked.shape[1:])}"
    is_ids = name is not None or all(isinstance(value, Tensor) for value in values)
    if reading.values is None and reading.max_value is None:
        if stacked.dtype.kind == "i" and is_ids:
            return torch.from_numpy(stacked), f"{shown}, ids, kept as integers"
        if stacked.dtype.kind == "b" and name is not None:
            return torch.from_numpy(stacked), f"{shown}, a mask, kept as it is"
    found = read_inputs(stacked, source, reading, name=name or "x")
    return found.values, found.done


def _kind(value: Any) -> str:
    if is_array(value):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    return "None" if value is None else f"{value!r:.60} ({type(value).__name__})"
