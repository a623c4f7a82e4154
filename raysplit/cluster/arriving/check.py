"""The check of every value that arrives from another party: type, shape, dtype, size, and finite numbers.

The receiver says what it expects (`raysplit.cluster.arriving.forms`): a gradient has the form of the smashed data that
it is of, weights have the names and forms of the model's. `require_form` looks at what is announced, before a codec
decodes it and anything large is allocated; `require_numbers` looks at the numbers, in one pass over each tensor. The
error names sender, receiver, round and step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor

from raysplit.cluster.arriving.contents import CONTENTS, Content
from raysplit.cluster.arriving.forms import ANYTHING, SENDER, Expected, NonFiniteValue, at_coordinator, refused
from raysplit.cluster.arriving.verbs import Holds
from raysplit.cluster.arriving.words import shown
from raysplit.cluster.contract import COORDINATOR

_NOTHING_GIVEN: Mapping[str, Any] = {}


class Due(NamedTuple):
    """A value that is due to arrive.

    Attributes:
        content: what it is.
        at: the `StepId` or `RoundContext` of its call, or None.
        given: the arguments of the call, if it is one of them.
    """

    content: str
    at: Any
    given: Mapping[str, Any] = _NOTHING_GIVEN


_made = tuple.__new__
"""Makes a named tuple of its fields; its own constructor is a Python function that costs as much as a check."""


def promised(due: Due | None) -> Due | None:
    """Return what is due as the value of a promise, which is never None."""
    return due if due is None or not due.content.endswith("?") else due._replace(content=due.content.rstrip("?"))


def due_answer(holds: Holds | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Due | None:
    """Return what is due as the answer to a call; None where nothing is checked."""
    if holds is None or not holds.answer:
        return None
    at = args[holds.call_at] if holds.call_at < len(args) else kwargs.get("context")
    return _made(Due, (holds.answer, at, _NOTHING_GIVEN))


def due_arguments(holds: Holds | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Due | None]:
    """Return what is due as each argument of a call, the keyword arguments last; empty where nothing is checked."""
    if holds is None or not holds.contents:
        return ()
    at = args[holds.call_at] if holds.call_at < len(args) else kwargs.get("context")
    given = dict(zip(holds.names, args))  # noqa: B905  # there may be fewer of either; to say so takes longer
    if holds.rest:
        given[holds.rest] = args[len(holds.names) :]
    if kwargs:
        given.update(kwargs)
    return [_made(Due, (content, at, given)) if content else None for content in holds.of_arguments(len(args), kwargs)]


def expected(party: Any, source: str, destination: str, due: Due) -> Expected:
    """Return what the receiver expects of a value; of weights, and at the coordinator, it depends on who sends it."""
    given = due.given
    if destination == COORDINATOR:
        party, given = at_coordinator.get(), {SENDER: source}
    elif due.content == "weights":
        given = {**given, SENDER: source}
    expects = getattr(party, "expects", None)
    found: Expected = ANYTHING if expects is None else expects(due.content, given)
    return found


def require_form(value: Any, due: Due, source: str, destination: str, wanted: Expected) -> None:
    """Raise `BadValue` for a value of another type, shape or dtype; a coded tensor is taken at what it announces."""
    _require_forms(_pieces(value, due, source, destination), due, source, destination, wanted)


def require_numbers(value: Any, due: Due, source: str, destination: str, wanted: Expected) -> None:
    """Raise `BadValue` for numbers that cannot be, and `NonFiniteValue` for those that are not finite."""
    _require_numbers(_pieces(value, due, source, destination), due, source, destination, wanted)


def require(value: Any, due: Due, source: str, destination: str, wanted: Expected) -> None:
    """Do both for a value that no codec changes and that is not a usual one."""
    pieces = _pieces(value, due, source, destination)
    _require_forms(pieces, due, source, destination, wanted)
    _require_numbers(pieces, due, source, destination, wanted)


_SINGLE, _INT32, _STRIDED = torch.float32, torch.int32, torch.strided


def is_usual(value: Any, due: Due, source: str, wanted: Expected) -> bool:
    """Return whether a value is the usual one of a step: labels, or one tensor as expected, beside a loss or alone.

    It spares what each step sends the way through all checks, which accept whatever is accepted here; they look again
    at what is not. Much of the time goes into code that the step's computing has driven out of the caches: hence one
    function.
    """
    content, told, tell = due.content, wanted.told, wanted.tell
    if content == "labels":
        count = wanted.num_classes.get("")
        if type(value) is not Tensor or count is None or value.ndim != 1 or value.dtype is not _INT32:
            return False
        if wanted.rows is None or value.shape[0] != wanted.rows or value.layout is not _STRIDED:
            return False
        labels = value.tolist()
        return bool(labels) and min(labels) >= 0 and max(labels) < count
    if content == "loss+gradients":
        if type(value) is not tuple or len(value) != 2:
            return False
        loss, value = value
        if type(loss) is not float or not isfinite(loss) or (loss < 0 and wanted.loss):
            return False
    elif content != "smashed" and content != "gradients":
        return False
    forms = wanted.tensors
    if forms is None or len(forms) != 1 or type(value) is not Tensor or value.layout is not _STRIDED:
        return False
    form, shape, dtype = forms[0], value.shape, value.dtype
    if dtype is not _SINGLE or form.dtype is not dtype or not shape:
        return False
    if shape != form.shape and (shape[0] != wanted.rows or form.shape[0] != -1 or shape[1:] != form.shape[1:]):
        return False
    if not shape[0] or (wanted.most_rows is not None and shape[0] > wanted.most_rows):
        return False
    total = (value.sum() if tell is None else torch.linalg.vector_norm(value)).item()
    if not isfinite(total):  # a sum of finite numbers may overflow too
        return False
    if tell is not None:
        tell(source, due.at, total)
    if told is not None and content == "loss+gradients":
        told(source)
    return True


_Pieces = Sequence[tuple[Any, Content]]
"""The pieces of a value with their checks."""


def _require_forms(pieces: _Pieces, due: Due, source: str, destination: str, wanted: Expected) -> None:
    for piece, content in pieces:
        if what := content.form(piece, wanted, source):
            raise refused(source, destination, what, due.at)


def _require_numbers(pieces: _Pieces, due: Due, source: str, destination: str, wanted: Expected) -> None:
    tell = partial(wanted.tell, source, due.at) if wanted.tell is not None else None
    if wanted.told is not None and due.content.startswith("loss"):
        wanted.told(source)
    for piece, content in pieces:
        if content.not_finite is not None and (what := content.not_finite(piece, wanted, tell)):
            raise refused(source, destination, what, due.at, kind=NonFiniteValue)
        if content.numbers is not None and (what := content.numbers(piece, wanted)):
            raise refused(source, destination, what, due.at)


def _pieces(value: Any, due: Due, source: str, destination: str) -> _Pieces:
    found = _PIECES.get(due.content)
    if found is None:
        found = _PIECES[due.content] = tuple(CONTENTS[name] for name in due.content.rstrip("?").split("+"))
    if value is None and due.content.endswith("?"):
        return ()
    if len(found) == 1:
        return ((value, found[0]),)
    if not isinstance(value, tuple) or len(value) != len(found):
        nouns = " and ".join(content.noun for content in found)
        raise refused(source, destination, f"{shown(value)} for {nouns}", due.at)
    return tuple(zip(value, found, strict=True))


_PIECES: dict[str, tuple[Content, ...]] = {}
