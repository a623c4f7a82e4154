"""What coding has taken and changed: seconds by party, and where it is asked for, errors by kind of value."""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from torch import Tensor

from raysplit.cluster.codecs.codec import Codec, Memory, Passage
from raysplit.cluster.links.coded import Coded
from raysplit.cluster.links.coding import decoded


class CodingError(NamedTuple):
    """The squared error that codecs made of values of a kind, and the square of these values."""

    kind: str
    error: float
    square: float


Errors = tuple[tuple[str, float, float], ...]


class Coding(NamedTuple):
    """The coding of a party since the previous measurement.

    Attributes:
        encode_s, decode_s: seconds.
        errors: squared errors of its values beside their squares, by kind.
    """

    encode_s: float = 0.0
    decode_s: float = 0.0
    errors: Errors = ()


class Spent:
    """The coding of all parties of a process since the previous measurement."""

    def __init__(self) -> None:
        self._found: defaultdict[str, Coding] = defaultdict(Coding)

    def encoding(self, party: str, seconds: float) -> None:
        """Add seconds of encoding."""
        before = self._found[party]
        self._found[party] = before._replace(encode_s=before.encode_s + seconds)

    def decoding(self, party: str, seconds: float) -> None:
        """Add seconds of decoding."""
        before = self._found[party]
        self._found[party] = before._replace(decode_s=before.decode_s + seconds)

    def erring(self, party: str, error: CodingError) -> None:
        """Add the error of a tensor."""
        before = self._found[party]
        self._found[party] = before._replace(errors=errors_of_both(before.errors, (error,)))

    def taken(self) -> dict[str, Coding]:
        """Return what was added since the previous call, by party."""
        found = dict(self._found)
        self._found.clear()
        return found


def errors_of_both(errors: Errors, others: Errors) -> Errors:
    """Return the sums of errors by kind, in the order of their first appearance."""
    total: dict[str, CodingError] = {}
    for kind, error, square in (*errors, *others):
        before = total.get(kind, CodingError(kind, 0.0, 0.0))
        total[kind] = CodingError(kind, before.error + error, before.square + square)
    return tuple(total.values())


def error_of(codec: Codec, leaf: Tensor, sent: Coded, at: Passage) -> CodingError:
    """Return the error of a tensor as its receivers decode it; ``at`` has the memory from before it was encoded."""
    values = leaf.detach().cpu().double()
    error = decoded(codec, sent, at).double() - values
    return CodingError(at.kind, float((error**2).sum()), float((values**2).sum()))


def copy_of(memory: Memory) -> Memory:
    """Return a memory that decoding may change, in place of the one that a party goes on with."""
    copy = Memory()
    copy.kept, copy.aside, copy.passing = dict(memory.kept), dict(memory.aside), dict(memory.passing)
    return copy
