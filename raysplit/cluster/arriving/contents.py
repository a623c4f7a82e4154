"""What is checked of each kind of content: smashed data, gradients, labels, weights, losses, reports, states.

A `Content` looks at the form of a value first, and at its numbers after a codec has decoded it. Each function returns
what is wrong, worded for "server sent owner-0 ...", or None.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raysplit.cluster.arriving.forms import ANY, Expected, Form, not_finite
from raysplit.cluster.arriving.records import (
    Tell,
    count_form,
    evaluation_form,
    loss_numbers,
    names_form,
    nested,
    number_form,
    number_not_finite,
    report_form,
    report_not_finite,
    state_form,
    state_not_finite,
)
from raysplit.cluster.arriving.words import quoted, shown
from raysplit.cluster.links.coded import Coded, unpacked

_NO_LABEL = -100
"""The label of samples that training leaves out, as in torch's losses."""


class Content(NamedTuple):
    """The checks of one kind of content.

    Attributes:
        noun: its name in messages.
        form: check of type, shape and dtype.
        not_finite: check for numbers that are not finite, if there is one.
        numbers: check for other numbers that cannot be, if there is one.
    """

    noun: str
    form: Callable[[Any, Expected, str], str | None]
    not_finite: Callable[[Any, Expected, Tell], str | None] | None = None
    numbers: Callable[[Any, Expected], str | None] | None = None


# -- tensors ---------------------------------------------------------------------------------------------------------


class _Announced(NamedTuple):
    """The shape and type that the header of a coded tensor announces."""

    shape: tuple[int, ...]
    dtype: torch.dtype


def _announced(value: Any) -> Any:
    """Return what has the shape and the type of a tensor, coded or not; None for anything else."""
    if isinstance(value, Tensor):
        return value if value.layout is torch.strided else None
    if isinstance(value, Coded):
        header = unpacked(value.header)
        return _Announced(header.shape, header.dtype)
    return None


def _tensors_form(noun: str, value: Any, wanted: Expected, source: str) -> str | None:
    values = value if isinstance(value, tuple) else (value,)
    found = [v if isinstance(v, Tensor) and v.layout is torch.strided else _announced(v) for v in values]
    forms, rows = wanted.tensors, wanted.rows
    if not found and forms is not None and not forms:
        return None  # nothing in front is trained
    if not found or any(each is None for each in found):
        return f"{shown(value if len(values) != 1 else values[0])} for {noun}"
    if forms is None:
        return None
    if len(found) != len(forms):
        return f"{len(found)} tensors for {noun}, and it expects {len(forms)}"
    for tensor, form in zip(found, forms, strict=True):
        if tensor.dtype != form.dtype:
            return f"{noun} in {_name(tensor.dtype)}, and it expects {_name(form.dtype)}"
        if tensor.shape != form.shape:
            fitting = _rows_of(tensor.shape, form.shape, rows)
            if fitting is None:
                return f"{noun} of shape {list(tensor.shape)}, and it expects {_sizes(form.shape, rows)}"
            rows = fitting or rows
    if wanted.most_rows is not None and rows is not None and rows > wanted.most_rows:
        return f"{noun} of {rows} rows, and a batch has at most {wanted.most_rows}"
    return None


def _rows_of(shape: Sequence[int], wanted: Sequence[int], rows: int | None) -> int | None:
    """Return the rows of a tensor, 0 where its shape does not depend on them; None for another shape."""
    if shape and wanted and wanted[0] == -1 and shape[1:] == wanted[1:]:  # the usual shape: rows, and fixed sizes
        return shape[0] if shape[0] and (rows is None or shape[0] == rows) else None
    if len(shape) != len(wanted):
        return None
    found = 0
    for size, of in zip(shape, wanted, strict=True):
        if of > 0 or of == ANY:
            if (size != of) if of > 0 else not size:
                return None
            continue
        found, rest = divmod(size, -of)
        if rest or not found or (rows is not None and found != rows):
            return None
        rows = found
    return found


def _sizes(shape: Sequence[int], rows: int | None) -> str:
    sizes = ["any" if size == ANY else str(size) if size > 0 else _times(-size, rows) for size in shape]
    return f"[{', '.join(sizes)}]"


def _times(factor: int, rows: int | None) -> str:
    return str(factor * rows) if rows else "B" if factor == 1 else f"{factor} B"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _tensors_not_finite(noun: str, value: Any, wanted: Expected, tell: Tell) -> str | None:
    values: Sequence[Tensor] = value if isinstance(value, tuple) else (value,)
    forms = wanted.tensors or (None,) * len(values)
    for tensor, form in zip(values, forms, strict=True):
        kind = not_finite(tensor, may_be_infinite=isinstance(form, Form) and form.may_be_infinite, tell=tell)
        if kind:
            return f"{noun} with {kind}"
    return None


def _vector_form(noun: str, value: Any, wanted: Expected, source: str) -> str | None:
    if isinstance(value, Tensor) and value.ndim != 1:
        return f"{noun} of shape {list(value.shape)}, and it expects one dimension"
    return _tensors_form(noun, value, wanted, source)


# -- labels ----------------------------------------------------------------------------------------------------------


def _labels_form(value: Any, wanted: Expected, source: str) -> str | None:
    pairs = _by_task(value)
    for task, y in pairs:
        if not isinstance(task, str) or not isinstance(y, Tensor) or not y.ndim:
            return f"{shown(y if isinstance(task, str) else task)} for labels"
        if wanted.rows is not None and y.shape[0] != wanted.rows:
            return f"labels for {y.shape[0]} samples beside smashed data of {wanted.rows}"
    return None if pairs else "no labels"


def _by_task(value: Any) -> Collection[tuple[Any, Any]]:
    """Return labels by task, or those of the only task under an empty name."""
    return value.items() if not isinstance(value, Tensor) and isinstance(value, Mapping) else (("", value),)


def _labels_not_finite(value: Any, wanted: Expected, tell: Tell) -> str | None:
    for _, y in _by_task(value):
        if y.is_floating_point() and not_finite(y) == "infinite values":  # NaN stands for no target
            return "labels with infinite values"
    return None


def _labels_numbers(value: Any, wanted: Expected) -> str | None:
    for task, y in _by_task(value):
        count = wanted.num_classes.get(task)
        if count is None or y.is_floating_point() or not y.numel():
            continue
        low, high = map(int, torch.aminmax(y))
        if low < 0:
            low = int(torch.where(y == _NO_LABEL, 0, y).min())
        if low < 0 or high >= count:
            return f"the label {low if low < 0 else high}, and there are {count} classes"
    return None


# -- weights and states ----------------------------------------------------------------------------------------------


def _weights_form(value: Any, wanted: Expected, source: str) -> str | None:
    if not isinstance(value, Mapping):
        return f"{shown(value)} for weights"
    forms = wanted.weights
    for name, weight in value.items():
        tensor = _announced(weight)
        if not isinstance(name, str) or tensor is None:
            return f"weights with {shown(weight)} at {quoted(name)}"
        if forms is None:
            continue
        form = forms.get(name)
        if form is None and wanted.others:
            continue
        if form is None:
            return f"weights with {quoted(name)}, which the model has not"
        if tensor.dtype != form.dtype:
            return f"weights whose {quoted(name)} is {_name(tensor.dtype)}, and it expects {_name(form.dtype)}"
        if tensor.shape != form.shape:
            return f"weights whose {quoted(name)} has shape {list(tensor.shape)}, and it expects {list(form.shape)}"
    if len(value) < len(wanted.required) or not all(name in value for name in wanted.required):
        return f"weights without {quoted(min(name for name in wanted.required if name not in value))}"
    return None


def _weights_not_finite(value: Mapping[str, Tensor], wanted: Expected, tell: Tell) -> str | None:
    if wanted.summed:
        return None
    for name, weight in value.items():
        kind = not_finite(weight, may_be_infinite=name in wanted.infinite)
        if kind:
            return f"weights with {kind} in {quoted(name)}"
    return None


def _anything(value: Any, wanted: Expected, source: str) -> str | None:
    return None


def _tensors(noun: str) -> Content:
    return Content(noun, partial(_tensors_form, noun), partial(_tensors_not_finite, noun))


def _number(noun: str) -> Content:
    return Content(noun, partial(number_form, noun), partial(number_not_finite, noun))


CONTENTS: Mapping[str, Content] = {
    "smashed": _tensors("smashed data"),
    "gradients": _tensors("a gradient"),
    "labels": Content("labels", _labels_form, _labels_not_finite, _labels_numbers),
    "weights": Content("weights", _weights_form, _weights_not_finite),
    "state": Content("a state", state_form, state_not_finite),
    "loss": _number("a loss")._replace(numbers=loss_numbers),
    "number": _number("a number"),
    "count": Content("a count", count_form),
    "names": Content("names", names_form),
    "vector": _tensors("a vector")._replace(form=partial(_vector_form, "a vector")),
    "numbers": Content("numbers", _anything, lambda value, wanted, tell: nested(value, (), "numbers")),
    "report": Content("a report", report_form, report_not_finite),
    "evaluation": Content("an evaluation", evaluation_form),
    "tensors": Content("tensors", _anything, lambda value, wanted, tell: nested(value, (), "tensors")),
}
"""The checks by the names that `raysplit.cluster.arriving.verbs` uses."""
