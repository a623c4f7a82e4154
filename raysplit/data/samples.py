"""Samples in memory: what a data owner holds, and a data set as the loaders return it.

Images stay ``uint8`` until a batch is made (a quarter of the memory of ``float32``); the transform of the data set
turns a batch into the input of the model. Inputs are one tensor, or tensors by name; labels are class indices, or one
tensor per task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

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
from raysplit.data.transforms import Transform

Indices = npt.NDArray[np.int64]
_Raw = tuple[bytearray, torch.dtype, tuple[int, ...]]
_RawValues = _Raw | dict[str, _Raw]


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Inputs ``x`` [N, ...] and labels ``y`` ([N] int64, or a mapping from task to [N, ...]).

    Inputs are one tensor, or tensors by name: ``uint8`` images, floating numbers, integers (tokens) or masks. Raises
    ``ValueError`` when lengths differ, ``x`` is of another type, or a single ``y`` is not [N] int64.
    """

    x: Values
    y: Tensor | Mapping[str, Tensor]

    def __post_init__(self) -> None:
        if not isinstance(self.x, Tensor) and (not self.x or UNNAMED in self.x):
            raise ValueError(
                f"the inputs are {list(self.x)}; named inputs have names other than {UNNAMED!r}, and the one input "
                f"without a name is the tensor itself"
            )
        inputs = _named("x", self.x)
        for name, value in inputs:
            if value.is_complex() or value.is_quantized:
                raise ValueError(f"{name} holds {value.dtype}; inputs are uint8 images, floating, integers or masks")
        if isinstance(self.y, Tensor) and (self.y.dtype != torch.int64 or self.y.ndim != 1):
            raise ValueError(f"y is {self.y.dtype} of shape {tuple(self.y.shape)}; class labels are int64 of shape [N]")
        first, length = inputs[0][0], len(self)
        for name, value in [*inputs[1:], *_named("y", self.y)]:
            if len(value) != length:
                raise ValueError(f"{name} has {len(value)} entries and {first} has {length}; there is one per sample")

    def __len__(self) -> int:
        return len(self.x if isinstance(self.x, Tensor) else next(iter(self.x.values())))

    def take(self, indices: Sequence[int] | Indices | Tensor) -> Samples:
        """The samples at ``indices``, in that order, copied: the result shares no memory with the whole."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)

        def rows(value: Tensor) -> Tensor:
            return value.index_select(0, chosen)

        return Samples(x=map_values(rows, self.x), y=map_values(rows, self.y))

    def __reduce__(self) -> tuple[Callable[..., Samples], tuple[_RawValues, _RawValues]]:
        """As bare memory: torch's own pickling takes a third of a millisecond per tensor, and shards are many."""
        return _samples, (_raw_values(self.x), _raw_values(self.y))

    @staticmethod
    def concatenated(parts: Sequence[Samples]) -> Samples:
        """All samples of the parts, one part after the other."""
        return Samples(x=concatenated([part.x for part in parts]), y=concatenated([part.y for part in parts]))

    def shuffled(self, rng: np.random.Generator) -> Indices:
        """An order of all samples."""
        return rng.permutation(len(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet:
    """A training and a test set, with the transform from stored samples to model inputs for each.

    ``inputs`` and ``targets`` say what a model takes and is judged by, by name. They may be left out: one unnamed
    floating input is then of ``input_shape``, the shape of one transformed sample, and others are as the evaluation
    transform makes the first test sample. ``natural_owner`` [len(train)] tells, where the data know it, who holds each
    training sample. ``val`` are samples for decisions on the way, which are neither trained nor tested on. ``classes``
    are the class names of each task, in order, where samples have a class label per task. Raises ``ValueError`` for an
    empty side, sides with other inputs, or owners that do not match.
    """

    train: Samples
    test: Samples
    num_classes: int
    input_shape: tuple[int, ...] = ()
    transform: Transform
    eval_transform: Transform
    natural_owner: npt.NDArray[np.generic] | None = None
    val: Samples | None = None
    classes: Mapping[str, tuple[str, ...]] | None = None
    inputs: Mapping[str, Input] = field(default_factory=dict)
    targets: Mapping[str, Input] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for side, samples in (("training", self.train), ("test", self.test)):
            if not len(samples):
                raise ValueError(f"the {side} set is empty; both sets need at least one sample")
        if self.natural_owner is not None and len(self.natural_owner) != len(self.train):
            raise ValueError(
                f"{len(self.natural_owner)} owner ids for {len(self.train)} training samples; there is one per sample"
            )
        wanted = _names(self.train)
        for side, samples in (("test", self.test), ("validation", self.val or self.test)):
            if _names(samples) != wanted:
                raise ValueError(f"training samples have the inputs {wanted} and {side} samples {_names(samples)}")
        inputs, input_shape = described(self.inputs or self._found_inputs(), self.input_shape)
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "input_shape", input_shape)
        if not self.targets:
            targets = {"y": self.test.y} if isinstance(self.test.y, Tensor) else self.test.y
            object.__setattr__(self, "targets", {name: record_of(name, value) for name, value in targets.items()})

    def _found_inputs(self) -> Mapping[str, Input]:
        """The inputs out of samples and transform; none where ``input_shape`` says all there is to say."""
        x = self.test.x
        if self.input_shape and isinstance(x, Tensor) and (x.dtype == torch.uint8 or x.is_floating_point()):
            return {}
        return inputs_of(self.eval_transform(self.test.take([0]).x, torch.Generator().manual_seed(0)))

    def require_pictures(self, who: str) -> None:
        """Raise ``ValueError`` unless there is one floating input of a fixed shape; ``who`` begins the message."""
        if not self.input_shape or not all(entry.dtype.is_floating_point for entry in self.inputs.values()):
            kinds = ", ".join(f"{name} ({entry.dtype}, {entry.shape})" for name, entry in self.inputs.items())
            raise ValueError(f"{who} pictures, one floating input, and these data have {kinds}; leave it out")

    def example(self, rows: int, *, lengths: Sequence[int] | None = None, dtype: torch.dtype = torch.float32) -> Values:
        """A batch as a model of this ``dtype`` takes it, which holds no sample (see `example_batch`)."""
        return example_batch(self.inputs, rows, lengths=lengths, dtype=dtype)


def _samples(x: _RawValues, y: _RawValues) -> Samples:
    return Samples(x=_tensors(x), y=_tensors(y))


def _raw_values(values: Values) -> _RawValues:
    return _raw(values) if isinstance(values, Tensor) else {name: _raw(value) for name, value in values.items()}


def _tensors(raw: _RawValues) -> Values:
    return {name: _tensor(value) for name, value in raw.items()} if isinstance(raw, dict) else _tensor(raw)


def _raw(tensor: Tensor) -> _Raw:
    """Memory, type and shape."""
    flat = tensor.contiguous().reshape(-1)
    return bytearray(flat.view(torch.uint8).numpy()) if len(flat) else bytearray(), tensor.dtype, tuple(tensor.shape)


def _tensor(raw: _Raw) -> Tensor:
    """On the very memory that was unpickled."""
    memory, dtype, shape = raw
    return torch.frombuffer(memory, dtype=dtype).reshape(shape) if memory else torch.empty(shape, dtype=dtype)


def _named(letter: str, values: Values) -> list[tuple[str, Tensor]]:
    """The tensors with the names that messages give them."""
    if isinstance(values, Tensor):
        return [(letter, values)]
    return [(f"{letter}[{name!r}]", value) for name, value in values.items()]


def _names(samples: Samples) -> list[str]:
    return [UNNAMED] if isinstance(samples.x, Tensor) else list(samples.x)
