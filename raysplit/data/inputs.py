"""The type and shape of each model input, as the data set describes it, and batches of these inputs.

Most data have one unnamed input, a tensor of pictures, vectors or tokens. Its record is called ``x``, and the model
gets it by position. Data with several inputs name them, and the model gets them by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

UNNAMED = "x"
"""Name of the record of the one unnamed input."""

SIDE_NAMES = frozenset({"attention_mask", "position_ids", "token_type_ids"})
"""Names of inputs whose role is ``side`` unless the data set says otherwise."""

EXAMPLE_LENGTH = 16
"""Length of an example sample in its ragged dimensions, where the model takes longer ones."""

Role = Literal["private", "side"]
Values: TypeAlias = Tensor | Mapping[str, Tensor]
"""The inputs of some samples: one tensor [B, ...], or tensors [B, ...] by name."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """Type and shape of one sample of a model input or of a target.

    Attributes:
        dtype: type of a batch as the model takes it, floating, int64 or bool; a floating one becomes the model's dtype.
        shape: shape of one sample, without the batch dimension; None where the size differs from sample to sample.
        ragged: True exactly when ``shape`` has a None.
        pad: value that fills up shorter samples.
        longest: largest size that the model takes where sizes differ; None where it does not say.
        role: ``private`` for an input that stays with its owner, ``side`` for one that may be sent (masks, positions).

    Raises:
        ValueError: for another dtype, sizes below 1, a pad that the dtype cannot hold, or an unknown role.

    Example:
        >>> Input(dtype=torch.int64, shape=(None,), ragged=True, pad=0).role  # tokens, padded with token 0
        'private'
    """

    dtype: torch.dtype
    shape: tuple[int | None, ...]
    ragged: bool = False
    pad: float = 0
    longest: int | None = None
    role: Role = "private"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        if not (self.dtype.is_floating_point or self.dtype in (torch.int64, torch.bool)):
            raise ValueError(
                f"an input has dtype {self.dtype}; a model takes floating numbers, int64 or bool, so let the transform "
                f"convert uint8 pictures to floating numbers and smaller integers to int64"
            )
        if any(size is not None and size < 1 for size in self.shape):
            raise ValueError(f"an input has shape {self.shape}; sizes must be at least 1, or None where samples differ")
        if self.ragged != (None in self.shape):
            raise ValueError(
                f"an input has shape {self.shape} and ragged={self.ragged}; set ragged=True exactly when a size is None"
            )
        if not self.dtype.is_floating_point and self.pad != int(self.pad):
            raise ValueError(f"an input of {self.dtype} cannot be padded with {self.pad}; pad must be a whole number")
        if self.role not in get_args(Role):
            raise ValueError(f"an input has role {self.role!r}; it must be {' or '.join(get_args(Role))}")

    def in_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Return the dtype of a batch for a model of this ``dtype``."""
        return dtype if self.dtype.is_floating_point else self.dtype


Inputs: TypeAlias = tuple[tuple[str, Input], ...]
"""Inputs by name in the order of the data set, as a hashable value."""


def described(
    inputs: Mapping[str, Input] | Inputs, input_shape: Sequence[int]
) -> tuple[dict[str, Input], tuple[int, ...]]:
    """Return the inputs and the input shape of a model, deriving either from the other where it is missing.

    Without ``inputs`` there is one unnamed floating input of ``input_shape``. The returned shape is empty unless there
    is a single input of a fixed shape. Raises ``ValueError`` when neither is given or they disagree.
    """
    given, found = tuple(input_shape), dict(inputs)
    if not found:
        if not given:
            raise ValueError(
                "neither inputs nor input_shape is given; give the shape of one sample, or a record per input"
            )
        return {UNNAMED: Input(dtype=torch.float32, shape=given)}, given
    shape = _only_shape(found)
    if given and given != shape:
        raise ValueError(
            f"input_shape is {given} and the inputs say {shape or 'several or ragged ones'}; give one of the two"
        )
    return found, shape


def _only_shape(inputs: Mapping[str, Input]) -> tuple[int, ...]:
    shapes = [entry.shape for entry in inputs.values()]
    sizes = tuple(size for size in shapes[0] if size is not None)
    return sizes if len(shapes) == 1 and len(sizes) == len(shapes[0]) else ()


def kept_back(inputs: Mapping[str, Input]) -> frozenset[str]:
    """Return the names of the private inputs that must not cross a cut unchanged.

    The unnamed floating input is not among them: the shortcut of a residual block may carry it across a cut.
    """
    private = [(name, entry) for name, entry in inputs.items() if entry.role == "private"]
    return frozenset(name for name, entry in private if name != UNNAMED or not entry.dtype.is_floating_point)


def with_sent(inputs: Mapping[str, Input], sent: Sequence[str]) -> dict[str, Input]:
    """Make side inputs, which may be sent, of those that ``model.send_inputs`` names."""
    if unknown := [name for name in sent if name not in inputs]:
        raise ValueError(f"model.send_inputs names {unknown[0]!r}, and the inputs of the data are {', '.join(inputs)}")
    return {name: replace(entry, role="side") if name in sent else entry for name, entry in inputs.items()}


def inputs_of(batch: Values) -> dict[str, Input]:
    """Return the record of each input of a transformed batch."""
    named = {UNNAMED: batch} if isinstance(batch, Tensor) else batch
    return {name: record_of(name, value) for name, value in named.items()}


def record_of(name: str, value: Tensor) -> Input:
    """Return the record of one tensor [B, ...] of a batch; ``uint8`` and floating numbers become float32."""
    is_integer = not value.is_floating_point() and value.dtype not in (torch.uint8, torch.bool)
    dtype = torch.bool if value.dtype == torch.bool else torch.int64 if is_integer else torch.float32
    return Input(dtype=dtype, shape=tuple(value.shape[1:]), role="side" if name in SIDE_NAMES else "private")


def example_length(inputs: Mapping[str, Input]) -> int:
    """Return the length of an example in its ragged dimensions: one less than the longest where the model says it."""
    return max(1, min([EXAMPLE_LENGTH, *(entry.longest - 1 for entry in inputs.values() if entry.longest is not None)]))


def longer_example(inputs: Mapping[str, Input], dtype: torch.dtype, generator: torch.Generator) -> Values | None:
    """Make a row that is longer by one than the usual example; None where lengths do not differ."""
    length = example_length(inputs) + 1
    ragged = [entry for entry in inputs.values() if entry.ragged]
    if not ragged or any(entry.longest is not None and entry.longest < length for entry in ragged):
        return None
    return example_batch(inputs, 1, lengths=[length], dtype=dtype, generator=generator)


def example_batch(
    inputs: Mapping[str, Input],
    rows: int,
    *,
    lengths: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float32,
    generator: torch.Generator | None = None,
) -> Values:
    """Make a batch of these inputs that contains no real sample: numbers are zero and masks true.

    Args:
        inputs: the record of each input, by name.
        rows: batch size B.
        lengths: length of each row in the ragged dimensions, padded to the longest; by default `example_length`.
        dtype: dtype of floating inputs.
        generator: generator that draws floating inputs from a standard normal distribution, instead of zeros.

    Returns:
        A tensor [B, ...] for the one unnamed input, else tensors [B, ...] by name.

    Raises:
        ValueError: when the number of lengths is not ``rows``.
    """
    lengths = [example_length(inputs)] * rows if lengths is None else list(lengths)
    if len(lengths) != rows:
        raise ValueError(f"{len(lengths)} lengths for {rows} rows; give one length per row")
    batch = {name: _example(entry, lengths, dtype, generator) for name, entry in inputs.items()}
    return batch[UNNAMED] if tuple(batch) == (UNNAMED,) else batch


def _example(entry: Input, lengths: Sequence[int], dtype: torch.dtype, generator: torch.Generator | None) -> Tensor:
    shape = (len(lengths), *(max(lengths) if size is None else size for size in entry.shape))
    if entry.dtype.is_floating_point:
        values = torch.zeros(shape) if generator is None else torch.randn(shape, generator=generator)
    else:  # token 0 exists in every vocabulary, and a mask of True hides nothing
        values = torch.full(shape, entry.dtype == torch.bool, dtype=entry.dtype)
    ragged = [dimension for dimension, size in enumerate(entry.shape) if size is None]
    for row, length in zip(values, lengths, strict=True):
        for dimension in ragged:
            row.narrow(dimension, length, row.shape[dimension] - length).fill_(entry.pad)
    return values.to(entry.in_dtype(dtype))


def cast(
    batch: Values, inputs: Mapping[str, Input], dtype: torch.dtype, device: torch.device | str | None = None
) -> Values:
    """Convert a transformed batch for a model: floating inputs to ``dtype``, integers and masks to their own type.

    Entries of the batch that are not among ``inputs`` are dropped. Raises ``ValueError`` for a missing one.
    """
    named = {UNNAMED: batch} if isinstance(batch, Tensor) else batch
    if missing := inputs.keys() - named.keys():
        raise ValueError(
            f"a batch has the inputs {', '.join(named)} and lacks {', '.join(sorted(missing))}; the transform of the "
            f"data set must return every input of DataSet.inputs"
        )
    taken = {name: named[name].to(device=device, dtype=entry.in_dtype(dtype)) for name, entry in inputs.items()}
    return taken[UNNAMED] if tuple(taken) == (UNNAMED,) else taken


def map_values(function: Callable[[Tensor], Tensor], values: Values) -> Values:
    """Apply a function to the one tensor, or to each tensor by name."""
    if isinstance(values, Tensor):
        return function(values)
    return {name: function(value) for name, value in values.items()}


def concatenated(parts: Sequence[Values]) -> Values:
    """Concatenate the rows of all parts."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    named = [part for part in parts if not isinstance(part, Tensor)]
    return {name: torch.cat([part[name] for part in named]) for name in first}


def feed(model: nn.Module, batch: Values) -> Any:
    """Return the output of a model for a batch; one tensor is passed by position, named ones by name."""
    return model(batch) if isinstance(batch, Tensor) else model(**batch)
