"""The form in which a party expects values from others.

A party says what it expects in its method ``expects``: the link asks it before it hands a value over, and names the
sender of a value that does not fit (`raysplit.cluster.arriving.check`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from raysplit.cluster.arriving.errors import BadValue as BadValue
from raysplit.cluster.arriving.errors import NonFiniteValue as NonFiniteValue
from raysplit.cluster.arriving.errors import refused as refused

ANY = 0
"""A size in a `Form` that may be any."""


class Form(NamedTuple):
    """The type and the shape of a tensor.

    Attributes:
        shape: its sizes; ``-k`` stands for k times the rows of the batch, and `ANY` for any size.
        dtype: its type.
        may_be_infinite: whether infinite values belong there, as in a mask that is added to scores.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    may_be_infinite: bool = False


class Expected(NamedTuple):
    """What a party expects of one value.

    Attributes:
        tensors: forms of its tensors in their order, or tensors that they have to be like; None takes any.
        rows: number of rows of the batch; None takes any.
        most_rows: largest number of rows; None sets no limit.
        weights: forms of its weights by name, or weights that they have to be like; None takes any.
        others: whether there may be other weights than ``weights``.
        required: names of the weights that may not be missing.
        infinite: names of the weights that may be infinite, such as those of a mask.
        num_classes: number of classes of integer labels by task, the only task being ``""``; others may be any.
        loss: name of a loss that is never negative; empty for any other.
        tell: receives the sender of a gradient, the step, and the norm.
        told: receives the sender of a loss, which is that party's word.
        summed: whether the party looks at the numbers of weights itself, all at once, when it has summed them.
    """

    tensors: Sequence[Form | Tensor] | None = None
    rows: int | None = None
    most_rows: int | None = None
    weights: Mapping[str, Form | Tensor] | None = None
    others: bool = False
    required: Collection[str] = frozenset()
    infinite: Collection[str] = frozenset()
    num_classes: Mapping[str, int] = {}
    loss: str = ""
    tell: Callable[[str, Any, float], None] | None = None
    told: Callable[[str], None] | None = None
    summed: bool = False


ANYTHING = Expected()


class Expecting(Protocol):
    """A party that says what it expects; other parties take what comes, if its numbers are finite."""

    def expects(self, content: str, given: Mapping[str, Any]) -> Expected:
        """Return what is expected of a value.

        Args:
            content: what the value is, such as ``"smashed"`` or ``"weights"``.
            given: the arguments of the call in which it comes, by name; empty for the answer to a call of one's own.
        """
        ...


SENDER = "sender"
"""The name in ``given`` under which the coordinator, which knows the parties, gets the name of the sender."""

at_coordinator: ContextVar[Expecting | None] = ContextVar("at_coordinator", default=None)
"""What the coordinator of the running training expects."""


def _once(value: Tensor) -> Tensor:
    """Return the numbers of a tensor once each, where it has the same ones many times in one place of its memory."""
    if 0 not in value.stride() or value.numel() < 2:
        return value
    return value[tuple([slice(0, 1) if stride == 0 else slice(None) for stride in value.stride()])]


def norm_of(value: Tensor) -> float:
    """Return the Euclidean norm of a tensor of real numbers, in one pass; infinite or NaN if a number is so."""
    return float(torch.linalg.vector_norm(value, dtype=_wide(value)))


def _wide(value: Tensor) -> torch.dtype | None:
    return torch.float32 if value.itemsize < 4 else None


def _sum_of(value: Tensor) -> float:
    """Return the sum of a tensor of real numbers; infinite or NaN if a number is so, whatever the others are."""
    return float(value.sum(dtype=_wide(value)))


def not_finite(
    value: Tensor, *, may_be_infinite: bool = False, tell: Callable[[float], None] | None = None
) -> str | None:
    """Return ``"NaN"`` or ``"infinite values"`` if a tensor has such numbers; None if all are finite.

    Args:
        value: a tensor of any type.
        may_be_infinite: whether infinite values are accepted.
        tell: receives the norm of a floating tensor whose numbers are finite.
    """
    if not value.is_floating_point():
        return not_finite(torch.view_as_real(value)) if value.is_complex() else None
    value = _once(value)
    norm = norm_of(value) if tell is not None else _sum_of(value)
    if math.isfinite(norm):  # then all numbers are; sums of finite ones may overflow, hence the second test
        if tell is not None:
            tell(norm)
        return None
    if torch.isnan(value).any():
        return "NaN"
    if torch.isinf(value).any():
        return None if may_be_infinite else "infinite values"
    if tell is not None:
        tell(norm)
    return None


def are_finite(values: Tensor | tuple[Tensor, ...]) -> bool:
    """Whether all floating-point values of a tensor, or of several, are finite."""
    return all(not_finite(v) is None for v in (values if isinstance(values, tuple) else (values,)))
