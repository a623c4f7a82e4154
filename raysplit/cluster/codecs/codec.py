"""What a codec is: the contract between a link and the ways to write a tensor with fewer bytes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy.typing as npt
import torch
from torch import Tensor

from raysplit.cluster.links.kinds import Kind

Arrays = Sequence[npt.NDArray[Any]]


class Passage(NamedTuple):
    """Where a tensor is on its way, for codecs that keep something or draw random numbers by it.

    Attributes:
        source: the party that made the value.
        destination: the party that it goes to; empty for an answer, of which the maker does not know where it goes.
        step: the `StepId` or `RoundContext` of the call; None where it has none.
        leaf: which tensor of the value: its position or name, inside of others after a slash.
    """

    source: str
    destination: str
    kind: Kind
    step: Any
    leaf: str


class Codec(ABC):
    """Writes a floating tensor as arrays of fewer bytes, and reads it back.

    Both ends hold a codec of the same configuration. A link asks a codec about finite floating tensors of at least 64
    values alone, and only where it makes them smaller; all others go as they are.

    Attributes:
        number: of the codec in the header of a coded tensor; codecs of one's own leave it at 255.
        kinds: the kinds of values that it is fit for.
    """

    number: ClassVar[int] = 255
    kinds: ClassVar[frozenset[Kind]] = frozenset(("smashed", "gradients"))

    @abstractmethod
    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        """The exact bytes of all arrays for a tensor of this shape, which a simulation counts."""

    @abstractmethod
    def encode(self, values: Tensor, at: Passage) -> Arrays:
        """The arrays, of `size` bytes together; ``values`` is contiguous, in main memory, and not to be changed."""

    @abstractmethod
    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        """The tensor, contiguous and in memory of its own; the arrays must not be written to."""
