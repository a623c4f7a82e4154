"""The interface of codecs, through which a link encodes a tensor in fewer bytes."""

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
    """The position of a tensor on its way, as a key for the state and the random numbers of a codec.

    Attributes:
        source: name of the party that computed the value.
        destination: name of the party that receives it; empty for an answer, whose receiver is not known yet.
        kind: kind of the value (`raysplit.cluster.links.kinds`).
        step: `StepId` or `RoundContext` of the call, or None if the call has none.
        leaf: position or name of the tensor in the value; levels of nesting are separated by slashes.
    """

    source: str
    destination: str
    kind: Kind
    step: Any
    leaf: str


class Codec(ABC):
    """Encodes a floating-point tensor as arrays of fewer bytes, and decodes it.

    Both ends of a link have a codec of the same configuration. A link encodes finite floating-point tensors of at least
    64 values, and only if that makes them smaller; it sends all others unchanged.

    Attributes:
        number: number of the codec in the header of a coded tensor; codecs outside of raysplit keep 255.
        kinds: kinds of values for which the codec may be used.
    """

    number: ClassVar[int] = 255
    kinds: ClassVar[frozenset[Kind]] = frozenset(("smashed", "gradients"))

    @abstractmethod
    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        """Return the exact size in bytes of all arrays for a tensor of this shape, which a simulation counts."""

    @abstractmethod
    def encode(self, values: Tensor, at: Passage) -> Arrays:
        """Return the arrays, of `size` bytes in total; ``values`` is contiguous, in CPU memory and read-only."""

    @abstractmethod
    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        """Return the contiguous tensor in new memory. The arrays are read-only."""
