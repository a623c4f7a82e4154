"""What is checked of numbers, names, reports, evaluations and states; see `Content`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from raysplit.cluster.arriving.forms import Expected, not_finite
from raysplit.cluster.arriving.words import quoted, shown
from raysplit.cluster.contract import original

Tell = Callable[[float], None] | None


def state_form(value: Any, wanted: Expected, source: str) -> str | None:
    return None if isinstance(value, Mapping) else f"{shown(value)} for a state"


def state_not_finite(value: Any, wanted: Expected, tell: Tell) -> str | None:
    return nested(value, wanted.infinite, "a state")


_FREE = "optimizer"
"""The key of what an optimizer keeps, where squares of large finite gradients may overflow."""


def nested(value: Any, infinite: Collection[str], noun: str, name: str = "") -> str | None:
    """Look for numbers that are not finite in nested values."""
    if isinstance(value, Tensor):
        kind = not_finite(value, may_be_infinite=name in infinite)
        return f"{noun} with {kind}" + (f" in {quoted(name)}" if name else "") if kind else None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{noun} with {value}" + (f" in {quoted(name)}" if name else "")
    for key, item in _items(value, name):
        if key != _FREE and (found := nested(item, infinite, noun, key)):
            return found
    return None


def _items(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        yield from ((name, item) for item in value)
    elif is_dataclass(value):
        yield from ((field.name, getattr(value, field.name)) for field in fields(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def number_form(noun: str, value: Any, wanted: Expected, source: str) -> str | None:
    return None if _is_number(value) else f"{shown(value)} for {noun}"


def number_not_finite(noun: str, value: float, wanted: Expected, tell: Tell) -> str | None:
    return None if math.isfinite(value) else f"{noun} of {value}"


def loss_numbers(value: float, wanted: Expected) -> str | None:
    return f"a loss of {value:g}, and {wanted.loss} is never negative" if wanted.loss and value < 0 else None


def count_form(value: Any, wanted: Expected, source: str) -> str | None:
    return None if _is_count(value) else f"{shown(value)} for a count"


def names_form(value: Any, wanted: Expected, source: str) -> str | None:
    if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
        return None
    return f"{shown(value)} for names"


def report_form(value: Any, wanted: Expected, source: str) -> str | None:
    if not all(hasattr(value, name) for name in ("owner", "loss", "num_samples", "num_steps", "values")):
        return f"{shown(value)} for a report"
    if value.owner != original(source):
        return f"a report of {quoted(value.owner)}"
    counts = all(map(_is_count, (value.num_samples, value.num_steps)))
    if not counts or not _is_number(value.loss) or not isinstance(value.values, tuple):
        return "a report whose loss, samples or steps are no numbers"
    return None


def report_not_finite(value: Any, wanted: Expected, tell: Tell) -> str | None:
    return nested({"loss": float(value.loss), **dict(value.values)}, (), "a report")


def evaluation_form(value: Any, wanted: Expected, source: str) -> str | None:
    if not all(hasattr(value, name) for name in ("num_samples", "num_correct", "loss_sum", "by_owner", "by_domain")):
        return f"{shown(value)} for an evaluation"
    right = value.num_correct
    if not _is_count(value.num_samples) or not _is_number(value.loss_sum) or not (right is None or _is_count(right)):
        return "an evaluation whose samples or loss are no numbers"
    if right is not None and right > value.num_samples:
        return f"an evaluation with {right} of {value.num_samples} samples right"
    return None
