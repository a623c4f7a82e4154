"""Samples in memory: what a data owner holds, and a data set as the loaders return it.

Images stay ``uint8`` until a batch is made (a quarter of the memory of ``float32``); the transform of the data set
turns a batch into the ``float32`` input of the model. Labels are class indices, or one tensor per task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysplit.data.transforms import Transform

Indices = npt.NDArray[np.int64]
_Raw = tuple[bytearray, torch.dtype, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """Inputs ``x`` [N, ...] (``uint8`` or floating) and labels ``y`` ([N] int64, or a mapping from task to [N, ...]).

    Raises ``ValueError`` when lengths differ, ``x`` is of another type, or a single ``y`` is not [N] int64.
    """

    x: Tensor
    y: Tensor | Mapping[str, Tensor]

    def __post_init__(self) -> None:
        if self.x.dtype != torch.uint8 and not self.x.is_floating_point():
            raise ValueError(f"x holds {self.x.dtype}; inputs are uint8 images or floating numbers")
        if isinstance(self.y, Tensor) and (self.y.dtype != torch.int64 or self.y.ndim != 1):
            raise ValueError(f"y is {self.y.dtype} of shape {tuple(self.y.shape)}; class labels are int64 of shape [N]")
        for name, target in _targets(self.y):
            if len(target) != len(self.x):
                raise ValueError(f"{name} has {len(target)} entries and x has {len(self.x)}; there is one per sample")

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: Sequence[int] | Indices | Tensor) -> Samples:
        """The samples at ``indices``, in that order, copied: the result shares no memory with the whole."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        if isinstance(self.y, Tensor):
            return Samples(x=self.x.index_select(0, chosen), y=self.y.index_select(0, chosen))
        targets = {task: target.index_select(0, chosen) for task, target in self.y.items()}
        return Samples(x=self.x.index_select(0, chosen), y=targets)

    def __reduce__(self) -> tuple[Callable[..., Samples], tuple[_Raw, _Raw | dict[str, _Raw]]]:
        """As bare memory: torch's own pickling takes a third of a millisecond per tensor, and shards are many."""
        y = self.y
        return _samples, (_raw(self.x), _raw(y) if isinstance(y, Tensor) else {task: _raw(y[task]) for task in y})

    @staticmethod
    def concatenated(parts: Sequence[Samples]) -> Samples:
        """All samples of the parts, one part after the other."""
        x = torch.cat([part.x for part in parts])
        labels = [part.y for part in parts if isinstance(part.y, Tensor)]
        if labels:
            return Samples(x=x, y=torch.cat(labels))
        targets = [part.y for part in parts if not isinstance(part.y, Tensor)]
        return Samples(x=x, y={task: torch.cat([y[task] for y in targets]) for task in targets[0]})

    def shuffled(self, rng: np.random.Generator) -> Indices:
        """An order of all samples."""
        return rng.permutation(len(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet:
    """A training and a test set, with the transform from stored samples to model inputs for each.

    ``input_shape`` is the shape of one transformed sample; ``natural_owner`` [len(train)] tells, where the data know
    it, who holds each training sample. ``val`` are samples for decisions on the way, which are neither trained nor
    tested on. ``classes`` are the class names of each task, in order, where samples have a class label per task. Raises
    ``ValueError`` for an empty side or owners that do not match.
    """

    train: Samples
    test: Samples
    num_classes: int
    input_shape: tuple[int, ...]
    transform: Transform
    eval_transform: Transform
    natural_owner: npt.NDArray[np.generic] | None = None
    val: Samples | None = None
    classes: Mapping[str, tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        for side, samples in (("training", self.train), ("test", self.test)):
            if not len(samples):
                raise ValueError(f"the {side} set is empty; both sets need at least one sample")
        if self.natural_owner is not None and len(self.natural_owner) != len(self.train):
            raise ValueError(
                f"{len(self.natural_owner)} owner ids for {len(self.train)} training samples; there is one per sample"
            )


def _samples(x: _Raw, y: _Raw | dict[str, _Raw]) -> Samples:
    return Samples(x=_tensor(x), y={task: _tensor(y[task]) for task in y} if isinstance(y, dict) else _tensor(y))


def _raw(tensor: Tensor) -> _Raw:
    """Memory, type and shape."""
    flat = tensor.contiguous().reshape(-1)
    return bytearray(flat.view(torch.uint8).numpy()) if len(flat) else bytearray(), tensor.dtype, tuple(tensor.shape)


def _tensor(raw: _Raw) -> Tensor:
    """On the very memory that was unpickled."""
    memory, dtype, shape = raw
    return torch.frombuffer(memory, dtype=dtype).reshape(shape) if memory else torch.empty(shape, dtype=dtype)


def _targets(y: Tensor | Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
    return [("y", y)] if isinstance(y, Tensor) else [(f"y[{task!r}]", target) for task, target in y.items()]
