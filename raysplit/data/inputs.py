"""What a model takes: the type and shape of each input, as the data say it, and batches of that kind.

Most data have one input without a name, a tensor: pictures, vectors, rows of tokens. It is called ``x`` in records and
passed to a model by position. Data with several inputs name them, and a model gets them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

UNNAMED = "x"
"""What the one input without a name is called."""

SIDE_NAMES = frozenset({"attention_mask", "position_ids", "token_type_ids"})
"""Inputs with these names are side inputs unless the data say otherwise."""

EXAMPLE_LENGTH = 16
"""Of an example, where sizes differ from sample to sample."""

Role = Literal["private", "side"]
Values: TypeAlias = Tensor | Mapping[str, Tensor]
"""The inputs of some samples: one tensor [B, ...], or tensors [B, ...] by name."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a model (or one target), seen per sample.

    Attributes:
        dtype: of a batch as the model takes it: floating, int64 or bool. Floating inputs follow the model's own dtype.
        shape: without the batch; None where the size differs from sample to sample.
        ragged: whether a size differs, that is, whether ``shape`` has a None.
        pad: what shorter samples are filled up with.
        role: ``private`` inputs are what the owner keeps to itself; ``side`` inputs (masks, positions) may be sent.

    Raises:
        ValueError: for another dtype, sizes below 1, a pad that the dtype cannot hold, or an unknown role.
    """

    dtype: torch.dtype
    shape: tuple[int | None, ...]
    ragged: bool = False
    pad: float = 0
    role: Role = "private"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if not (self.dtype.is_floating_point or self.dtype in (torch.int64, torch.bool)):
            raise ValueError(
                f"an input of {self.dtype}; a model takes floating numbers, int64 or bool (uint8 pictures become "
                f"floating and smaller integers int64 in the transform)"
            )
        if any(size is not None and size < 1 for size in self.shape):
            raise ValueError(f"an input of shape {self.shape}; sizes are at least 1, or None where they differ")
        if self.ragged != (None in self.shape):
            raise ValueError(
                f"an input of shape {self.shape} with ragged={self.ragged}; exactly ragged inputs have a size None"
            )
        if not self.dtype.is_floating_point and self.pad != int(self.pad):
            raise ValueError(f"an input of {self.dtype} cannot be padded with {self.pad}; give a whole number")
        if self.role not in get_args(Role):
            raise ValueError(f"the role of an input is {' or '.join(get_args(Role))}, got {self.role!r}")

    def in_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """The dtype of a batch for a model of this ``dtype``."""
        return dtype if self.dtype.is_floating_point else self.dtype


Inputs: TypeAlias = tuple[tuple[str, Input], ...]
"""Inputs by name, in the order of the data, as a value that can be hashed."""


def described(
    inputs: Mapping[str, Input] | Inputs, input_shape: Sequence[int]
) -> tuple[dict[str, Input], tuple[int, ...]]:
    """What a model takes, and the shape that builders of models are given; either is made from the other if missing.

    Without ``inputs`` there is one unnamed floating input of ``input_shape``. The shape is empty where there is no
    single input of a fixed shape. Raises ``ValueError`` when neither is given or they do not agree.
    """
    given, found = tuple(input_shape), dict(inputs)
    if not found:
        if not given:
            raise ValueError("neither inputs nor input_shape are given; say what one sample looks like")
        return {UNNAMED: Input(dtype=torch.float32, shape=given)}, given
    shape = _only_shape(found)
    if given and given != shape:
        raise ValueError(f"input_shape is {given} and the inputs say {shape or 'several or ragged ones'}; give one")
    return found, shape


def _only_shape(inputs: Mapping[str, Input]) -> tuple[int, ...]:
    shapes = [entry.shape for entry in inputs.values()]
    sizes = tuple(size for size in shapes[0] if size is not None)
    return sizes if len(shapes) == 1 and len(sizes) == len(shapes[0]) else ()


def kept_back(inputs: Mapping[str, Input]) -> frozenset[str]:
    """The private inputs, which never cross a cut as they are; the one unnamed floating input may, past a block."""
    private = [(name, entry) for name, entry in inputs.items() if entry.role == "private"]
    return frozenset(name for name, entry in private if name != UNNAMED or not entry.dtype.is_floating_point)


def inputs_of(batch: Values) -> dict[str, Input]:
    """The record of each input of a transformed batch."""
    named = {UNNAMED: batch} if isinstance(batch, Tensor) else batch
    return {name: record_of(name, value) for name, value in named.items()}


def record_of(name: str, value: Tensor) -> Input:
    """The record of one tensor [B, ...] of a batch; numbers other than integers and bool are taken as float32."""
    is_integer = not value.is_floating_point() and value.dtype not in (torch.uint8, torch.bool)
    dtype = torch.bool if value.dtype == torch.bool else torch.int64 if is_integer else torch.float32
    return Input(dtype=dtype, shape=tuple(value.shape[1:]), role="side" if name in SIDE_NAMES else "private")


def example_batch(
    inputs: Mapping[str, Input],
    rows: int,
    *,
    lengths: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> Values:
    """A batch of this kind that holds no sample: floating inputs are zero, integers 0, masks true.

    Args:
        lengths: of each row in the ragged dimensions, padded to the longest; by default `EXAMPLE_LENGTH`.
        dtype: of floating inputs.
        generator: draw floating inputs from a standard normal distribution instead.
    """
    lengths = [EXAMPLE_LENGTH] * rows if lengths is None else list(lengths)
    if len(lengths) != rows:
        raise ValueError(f"{len(lengths)} lengths for {rows} rows; give one for each")
    batch = {name: _example(entry, lengths, dtype, generator) for name, entry in inputs.items()}
    return batch[UNNAMED] if tuple(batch) == (UNNAMED,) else batch


def _example(entry: Input, lengths: Sequence[int], dtype: torch.dtype, generator: torch.Generator | None) -> Tensor:
    shape = (len(lengths), *(max(lengths) if size is None else size for size in entry.shape))
    if entry.dtype.is_floating_point:
        values = torch.zeros(shape) if generator is None else torch.randn(shape, generator=generator)
    else:  # zero is in the range of any vocabulary, and nothing is masked
        values = torch.full(shape, entry.dtype == torch.bool, dtype=entry.dtype)
    ragged = [dimension for dimension, size in enumerate(entry.shape) if size is None]
    for row, length in zip(values, lengths, strict=True):
        for dimension in ragged:
            row.narrow(dimension, length, row.shape[dimension] - length).fill_(entry.pad)
    return values.to(entry.in_dtype(dtype))


def cast(
    batch: Values, inputs: Mapping[str, Input], dtype: torch.dtype, device: torch.device | str | None = None
) -> Values:
    """A transformed batch as the model takes it: floating inputs in ``dtype``, integers and masks in their own.

    Inputs that are not asked for are left out. Raises ``ValueError`` for one that is missing.
    """
    named = {UNNAMED: batch} if isinstance(batch, Tensor) else batch
    if missing := inputs.keys() - named.keys():
        raise ValueError(
            f"a batch has the inputs {', '.join(named)} and lacks {', '.join(sorted(missing))}; the data set says what "
            f"a model takes (DataSet.inputs), and its transform has to give it"
        )
    taken = {name: named[name].to(device=device, dtype=entry.in_dtype(dtype)) for name, entry in inputs.items()}
    return taken[UNNAMED] if isinstance(batch, Tensor) else taken


def map_values(function: Callable[[Tensor], Tensor], values: Values) -> Values:
    """Apply a function to the one tensor, or to each by name."""
    if isinstance(values, Tensor):
        return function(values)
    return {name: function(value) for name, value in values.items()}


def concatenated(parts: Sequence[Values]) -> Values:
    """The rows of all parts, one after the other."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    named = [part for part in parts if not isinstance(part, Tensor)]
    return {name: torch.cat([part[name] for part in named]) for name in first}


def tensors_of(values: Values) -> tuple[Tensor, ...]:
    """All tensors, in order."""
    return (values,) if isinstance(values, Tensor) else tuple(values.values())


def feed(model: nn.Module, batch: Values) -> Any:
    """What a model makes of a batch: one tensor is passed by position, named ones by name."""
    return model(batch) if isinstance(batch, Tensor) else model(**batch)
