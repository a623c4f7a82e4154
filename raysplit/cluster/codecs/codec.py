"""The interface of codecs, through which a link encodes a tensor in fewer bytes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysplit.cluster.links.kinds import Kind
from raysplit.seeding import derive, generator

Arrays = Sequence[npt.NDArray[Any]]


class Memory:
    """What the codecs of one party keep from one value to the next.

    Attributes:
        kept: tensors by key, which checkpoints contain.
        aside: changes of ``kept`` that wait until the receiver has taken the value; a value that is refused, dropped
            or sent again leaves ``kept`` as it was.
        passing: plain values for the present step, which checkpoints leave out.
    """

    __slots__ = ("aside", "kept", "passing")

    def __init__(self) -> None:
        self.kept: dict[str, Tensor] = {}
        self.aside: dict[str, Tensor] = {}
        self.passing: dict[Any, Any] = {}

    def commit(self) -> None:
        """Keep what was put aside: the receiver has taken the value."""
        self.kept |= self.aside
        self.aside.clear()


class Passage(NamedTuple):
    """The position of a tensor on its way, as a key for the state and the random numbers of a codec.

    Attributes:
        source: name of the party that computed the value.
        destination: name of the party that receives it; empty for an answer, whose receiver is not known yet.
        kind: kind of the value (`raysplit.cluster.links.kinds`).
        step: `StepId` or `RoundContext` of the call, or None if the call has none.
        leaf: position or name of the tensor in the value; levels of nesting are separated by slashes.
        number: number of the tensor among those of the value, counted from 0.
        seed: seed of the run.
        memory: what the codecs of the party at this end keep.
    """

    source: str
    destination: str
    kind: Kind
    step: Any
    leaf: str
    number: int = 0
    seed: int = 0
    memory: Memory = Memory()  # an end that keeps nothing

    @property
    def owner(self) -> str:
        """The owner whose step this is; ``*`` for values that are meant for all owners."""
        return getattr(self.step, "owner", "*")

    def generator(self) -> np.random.Generator:
        """Return the random stream of this tensor, keyed by seed, maker, kind, owner, round, step and position.

        Neither the attempt nor the receiver is a key: a repeated round draws the same numbers, and all receivers of a
        value decode the same one.
        """
        round, step = getattr(self.step, "round", -1), getattr(self.step, "step", -1)
        keys = ("round", round, "step", step, self.number, self.leaf)
        return generator(self.seed, "link", self.source, self.kind, self.owner, *keys)

    def operator_seed(self, codec: str, size: int) -> int:
        """Return the seed of a fixed operator, which is equal at both ends of every link and never sent."""
        return derive(self.seed, "link operator", codec, size)


class Codec(ABC):
    """Encodes a floating-point tensor as arrays of fewer bytes, and decodes it.

    Both ends of a link have a codec of the same configuration. A link encodes finite floating-point tensors of at least
    64 values, and only if that makes them smaller; it sends all others unchanged. It gives tensors in half
    precision to the codec as float32. The keys beside ``codec`` in YAML are the keyword arguments of the class.

    Attributes:
        number: number of the codec in the header of a coded tensor; codecs outside of raysplit keep 255.
        kinds: kinds of values for which the codec may be used.
        lossy: whether decoding may give other values.
        size_depends_on_values: whether `size` is an upper bound instead of the exact size.
        needs_reference: whether weights are coded only as differences to weights that both ends have.
        is_portable: whether the bits are equal on all kinds of processors.
        keeps_state: whether the codec keeps something from one value to the next.
    """

    number: int = 255
    kinds: frozenset[Kind] = frozenset(("smashed", "gradients"))
    lossy: bool = True
    size_depends_on_values: bool = False
    needs_reference: bool = False
    is_portable: bool = True
    keeps_state: bool = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    @property
    def mixes_rows(self) -> bool:
        """Whether the decoded rows of a batch depend on one another."""
        return False

    @property
    def changes_gradients(self) -> bool:
        """Whether `gradient_of_sent` may return another gradient."""
        return False

    @abstractmethod
    def size(self, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        """Return the size in bytes of all arrays for a tensor of this shape, which a simulation counts."""

    @abstractmethod
    def encode(self, values: Tensor, at: Passage) -> Arrays | None:
        """Return the arrays, of `size` bytes in total, or None to send the tensor unchanged.

        ``values`` is contiguous, in CPU memory and read-only.
        """

    @abstractmethod
    def decode(self, arrays: Arrays, shape: tuple[int, ...], dtype: torch.dtype, at: Passage) -> Tensor:
        """Return the contiguous tensor in new memory. The arrays are read-only."""

    def last_bytes(self, heads: Arrays, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        """Return the size of the last array, given those before it, by which a chain knows whether it is compressed."""
        return self.size(shape, dtype) - sum(head.nbytes for head in heads)

    def gradient_of_sent(self, gradient: Tensor, at: Passage) -> Tensor:
        """Return the gradient of smashed data as they were, given that of smashed data as they arrived.

        The sender calls it with what came back in the step; ``at`` is the passage of the gradient. By default the two
        are taken for the same.
        """
        return gradient

    def takes(self, shape: tuple[int, ...], dtype: torch.dtype) -> bool:
        """Return whether tensors of this shape are coded; others are sent unchanged."""
        return True

    def for_kind(self, kind: Kind) -> Codec:
        """Return the codec as it is used for a kind of value. Raises ``ValueError`` where it cannot be used."""
        if kind not in self.kinds:
            fit = " and ".join(sorted(self.kinds)) or "nothing"
            raise ValueError(f"{type(self).__name__} is a codec for {fit}, not for {kind}; leave {kind} uncoded")
        return self

    def in_evaluation(self) -> Codec:
        """Return the codec that stands at a cut of the evaluated model; a random one has its plain form."""
        return self


class ValueCodec(Codec):
    """A codec whose last array holds floating-point values, which the next codec of a chain encodes further.

    Attributes:
        num_heads: number of arrays before the values.
    """

    num_heads: ClassVar[int] = 0

    def last_bytes(self, heads: Arrays, shape: tuple[int, ...], dtype: torch.dtype) -> int:
        if self.size_depends_on_values:
            return math.prod(self.values_shape(heads, shape)) * dtype.itemsize
        return super().last_bytes(heads, shape, dtype)

    @abstractmethod
    def values_shape(self, heads: Arrays, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape in which the values are encoded further, given the arrays before them."""

    @abstractmethod
    def most_values(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the largest shape that the values can have for a tensor of this shape."""


def num_rows(shape: tuple[int, ...]) -> int:
    """Return the number of rows of a tensor: its first dimension, or 1 if it has one dimension only."""
    return shape[0] if len(shape) > 1 else 1
