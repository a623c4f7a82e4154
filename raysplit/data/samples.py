"""Samples in memory, as a data owner holds them, and data sets, as the loaders return them.

Images stay ``uint8`` until a batch is made, a quarter of ``float32``; the transform makes the input of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysplit.data.bare_memory import RawValues, raw_values, tensors
from raysplit.data.inputs import (
    UNNAMED,
    Input,
    Values,
    concatenated,
    described,
    example_batch,
    inputs_of,
    map_values,
    record_of,
)
from raysplit.data.labels import check_classes, check_targets
from raysplit.data.reading import AS_FOUND, Reading
from raysplit.data.sequences.masks import check_masks
from raysplit.data.sequences.ragged import Ragged, offsets_of, with_lengths
from raysplit.data.transforms import Transform
from raysplit.tasks import inferred_kind

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Inputs and labels of N samples in memory.

    Attributes:
        x: inputs, a tensor [N, ...] or tensors [N, ...] by name: ``uint8`` images, floating numbers, integers (such as
            tokens) or ``bool`` masks.
        y: class labels [N] int64, other targets [N, ...] (numbers, or classes of pixels or tokens), or the targets
            [N, ...] of each task by name.
        ragged: by name of an input or target (``x`` and ``y`` where there is one), where each sample begins in the
            tensor [rows, ...] that holds all of them; for samples of different lengths.

    Raises:
        ValueError: when numbers of samples differ, or an input or the targets have another type.

    Example:
        >>> samples = Samples(x=torch.rand(6, 1, 8, 8), y=torch.tensor([0, 1, 2, 0, 1, 2]))
        >>> len(samples), samples.take([0, 3]).y
        (6, tensor([0, 0]))
    """

    x: Values
    y: Tensor | Mapping[str, Tensor]
    ragged: Mapping[str, Ragged] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.x, Tensor) and (not self.x or UNNAMED in self.x):
            raise ValueError(
                f"the inputs are {list(self.x)}; named inputs have names other than {UNNAMED!r}; give a single "
                f"input as the tensor itself, or use another name"
            )
        inputs = _named("x", self.x)
        for name, value in inputs:
            if value.is_complex() or value.is_quantized:
                raise ValueError(
                    f"{name} holds {value.dtype}; inputs are uint8 images, floating numbers, integers or masks"
                )
        if isinstance(self.y, Tensor):
            check_targets(self.y)
        if self.ragged:
            self._check_ragged()
        first, length = inputs[0][0], len(self)
        for name, value in [*inputs[1:], *_named("y", self.y)]:
            found = self.ragged.get(_plain_name(name), value)
            if len(found) != length:
                raise ValueError(f"{name} has {len(found)} entries and {first} has {length}; give one entry per sample")

    def _check_ragged(self) -> None:
        values = {_plain_name(name): value for name, value in [*_named("x", self.x), *_named("y", self.y)]}
        for name, ragged in self.ragged.items():
            if name not in values:
                raise ValueError(f"ragged names {name!r}, and inputs and targets are {', '.join(values)}")
            if (rows := len(values[name])) != (wanted := int(ragged.offsets[-1])):
                raise ValueError(f"{name} has {rows} rows and its offsets end with {wanted}; they must end with {rows}")

    def __len__(self) -> int:
        name, value = (UNNAMED, self.x) if isinstance(self.x, Tensor) else next(iter(self.x.items()))
        return len(self.ragged[name]) if name in self.ragged else value.shape[0]

    def take(self, indices: Sequence[int] | Indices | Tensor) -> Samples:
        """Return the samples at ``indices`` as a batch in that order, which shares no memory with these samples.

        Those of different lengths are padded.
        """
        chosen = torch.as_tensor(indices, dtype=torch.int64)

        def rows(value: Tensor) -> Tensor:
            return value.index_select(0, chosen)

        if not self.ragged:
            return Samples(x=map_values(rows, self.x), y=map_values(rows, self.y))

        def of(name: str, value: Tensor) -> Tensor:
            return self.ragged[name].padded(value, chosen) if name in self.ragged else rows(value)

        return Samples(x=_map_named(of, UNNAMED, self.x), y=_map_named(of, "y", self.y))

    def subset(self, indices: Sequence[int] | Indices | Tensor) -> Samples:
        """Return the samples at ``indices`` in the form of these ones: those of different lengths stay as they are."""
        if not self.ragged:
            return self.take(indices)
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        kept: dict[str, Ragged] = {}

        def of(name: str, value: Tensor) -> Tensor:
            if name not in self.ragged:
                return value[chosen]
            flat, kept[name] = self.ragged[name].subset(value, chosen)
            return flat

        return Samples(x=_map_named(of, UNNAMED, self.x), y=_map_named(of, "y", self.y), ragged=kept)

    def __reduce__(self) -> tuple[Callable[..., Samples], tuple[Any, ...]]:
        return _samples, (raw_values(self.x), raw_values(self.y), dict(self.ragged))

    @staticmethod
    def concatenated(parts: Sequence[Samples]) -> Samples:
        """Concatenate the samples of all parts."""
        ragged = {
            name: replace(first, offsets=offsets_of(torch.cat([part.ragged[name].lengths for part in parts])))
            for name, first in parts[0].ragged.items()
        }
        x, y = concatenated([part.x for part in parts]), concatenated([part.y for part in parts])
        return Samples(x=x, y=y, ragged=ragged)

    def shuffled(self, rng: np.random.Generator) -> Indices:
        """Return a random order of all samples, indices [N]."""
        return rng.permutation(len(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet:
    """Training and test samples, with the transforms that turn them into model inputs.

    Attributes:
        train: training samples.
        test: test samples.
        num_classes: number of classes; else of outputs: labels, numbers to estimate, or tokens of the vocabulary.
        input_shape: shape of one transformed sample, without the batch dimension; derived from ``inputs`` if left out.
        transform: transform of training batches, random augmentation included.
        eval_transform: transform of validation and test batches.
        natural_owner: the owner's id of each training sample [len(train)], for the partition ``natural_id``.
        test_owner: the owner's id of each test sample [len(test)], of the same kind; None where the data do not say.
        val: samples that choose a checkpoint or guide decisions; neither trained nor tested on.
        classes: class names of each task, in order, for samples with one class label per task.
        num_outputs: number of outputs of a task, where these samples do not say it.
        inputs: records of the model's inputs by name. If left out, there is one unnamed floating input of
            ``input_shape``, or without that the inputs are read off the first transformed test sample.
        targets: records of the targets by name; read off the test samples if left out.
        label_names: the label that each class had in the data, where labels were renumbered.
        sizes: further sizes that models are built for, such as ``vocab_size``, by the parameter that takes them.
        prepare: makes the data set once the training rows of each owner are known; None where nothing is left to do.
        statements: what each owner has said of its samples for that.
        done: what was done with the inputs when they were read, in words.
        reading: the settings by which they were read.

    Raises:
        ValueError: for an empty side, sides with different inputs, labels beyond the classes, or owner ids that do not
            match the samples or one another.

    Example:
        >>> from raysplit.data.transforms import ToUnit
        >>> side = Samples(x=torch.rand(80, 4), y=torch.arange(80) % 3)
        >>> DataSet(train=side, test=side, num_classes=3, transform=ToUnit(), eval_transform=ToUnit()).input_shape
        (4,)
    """

    train: Samples
    test: Samples
    num_classes: int
    input_shape: tuple[int, ...] = ()
    transform: Transform
    eval_transform: Transform
    natural_owner: npt.NDArray[np.generic] | None = None
    test_owner: npt.NDArray[np.generic] | None = None
    val: Samples | None = None
    classes: Mapping[str, tuple[str, ...]] | None = None
    num_outputs: Mapping[str, int] = field(default_factory=dict)
    inputs: Mapping[str, Input] = field(default_factory=dict)
    targets: Mapping[str, Input] = field(default_factory=dict)
    label_names: tuple[str, ...] | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[DataSet, Mapping[str, Indices]], DataSet] | None = None
    statements: tuple[Any, ...] = ()
    done: tuple[str, ...] = ()
    reading: Reading = AS_FOUND

    def __post_init__(self) -> None:
        for side, samples in (("training", self.train), ("test", self.test)):
            if not len(samples):
                raise ValueError(f"the {side} set is empty; give both sets at least one sample")
            self._check_labels(side, samples)
        _check_owners("training", self.natural_owner, self.train)
        _check_owners("test", self.test_owner, self.test)
        if self.test_owner is not None and _kind(self.natural_owner) != _kind(self.test_owner):
            raise ValueError(
                f"the owners of test samples are {_kind(self.test_owner)} and those of training samples are "
                f"{_kind(self.natural_owner)}; give the ids of the same owners for both sides"
            )
        wanted = _names(self.train)
        for side, samples in (("test", self.test), ("validation", self.val or self.test)):
            if _names(samples) != wanted:
                raise ValueError(
                    f"training samples have the inputs {wanted} and {side} samples {_names(samples)}; give all sides "
                    f"the same inputs"
                )
        inputs, input_shape = described(self.inputs or self._found_inputs(), self.input_shape)
        for side, held in (("training", self.train), ("test", self.test), ("validation", self.val or self.test)):
            check_masks(held.x, held.ragged, f"{side} sample")
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "input_shape", input_shape)
        if not self.targets:
            targets = {"y": self.test.y} if isinstance(self.test.y, Tensor) else self.test.y
            found = {name: record_of(name, value) for name, value in targets.items()}
            object.__setattr__(self, "targets", with_lengths(found, self.test.ragged))

    def _check_labels(self, side: str, samples: Samples) -> None:
        """Raise ``ValueError`` for a class label beyond the number of classes."""
        y = samples.y
        tasks = {"y": (y, self.num_classes)} if isinstance(y, Tensor) and inferred_kind(y) == "classification" else {}
        if not isinstance(y, Tensor) and self.classes is not None:
            tasks = {f"y[{task!r}]": (y[task], len(names)) for task, names in self.classes.items() if task in y}
        for name, (labels, num_classes) in tasks.items():
            check_classes(labels, num_classes, f"{name} of {side} sample", samples.ragged.get(_plain_name(name)))

    def _found_inputs(self) -> Mapping[str, Input]:
        """Read the inputs off a transformed test sample; empty where ``input_shape`` describes the one input."""
        x = self.test.x
        if self.input_shape and isinstance(x, Tensor) and (x.dtype == torch.uint8 or x.is_floating_point()):
            return {}
        found = inputs_of(self.eval_transform(self.test.take([0]).x, torch.Generator().manual_seed(0)))
        return with_lengths(found, self.test.ragged)

    def require_pictures(self, who: str) -> None:
        """Raise ``ValueError``, beginning with ``who``, unless there is one floating input of a fixed shape."""
        if not self.input_shape or not all(entry.dtype.is_floating_point for entry in self.inputs.values()):
            kinds = ", ".join(f"{name} ({entry.dtype}, {entry.shape})" for name, entry in self.inputs.items())
            raise ValueError(
                f"{who} pictures, one floating input of a fixed shape, and these data have {kinds}; leave it out"
            )

    def example(self, rows: int, *, lengths: Sequence[int] | None = None, dtype: torch.dtype = torch.float32) -> Values:
        """Make a batch of ``rows`` rows for a model of this ``dtype``, without real samples (see `example_batch`)."""
        return example_batch(self.inputs, rows, lengths=lengths, dtype=dtype)


def _samples(x: RawValues, y: RawValues, ragged: Mapping[str, Ragged]) -> Samples:
    return Samples(x=tensors(x), y=tensors(y), ragged=ragged)


def _map_named(function: Callable[[str, Tensor], Tensor], unnamed: str, values: Values) -> Values:
    """Apply a function to the name and the tensor of each input or target."""
    if isinstance(values, Tensor):
        return function(unnamed, values)
    return {name: function(name, value) for name, value in values.items()}


def _check_owners(side: str, ids: npt.NDArray[np.generic] | None, samples: Samples) -> None:
    if ids is not None and np.shape(ids) != (len(samples),):
        raise ValueError(f"{len(ids)} owner ids for {len(samples)} {side} samples; give one id per sample")


def _kind(ids: npt.NDArray[np.generic] | None) -> str:
    if ids is None:
        return "missing"
    return "numbers" if np.asarray(ids).dtype.kind in "uifb" else "names"


def _plain_name(shown: str) -> str:
    """Return the name in ``ragged`` of an input or target as messages show it."""
    return shown[3:-2] if shown.endswith("]") else shown


def _named(letter: str, values: Values) -> list[tuple[str, Tensor]]:
    """Return the tensors with their names in error messages."""
    if isinstance(values, Tensor):
        return [(letter, values)]
    return [(f"{letter}[{name!r}]", value) for name, value in values.items()]


def _names(samples: Samples) -> list[str]:
    return [UNNAMED] if isinstance(samples.x, Tensor) else list(samples.x)
