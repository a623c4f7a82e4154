"""The check of every value that arrives from another party: type, shape, dtype, size, and finite numbers.

The receiver says what it expects (`raysplit.cluster.arriving.forms`): a gradient has the form of the smashed data that
it is of, weights have the names and forms of the model's. `require_form` looks at what is announced, before a codec
decodes it and anything large is allocated; `require_numbers` looks at the numbers, in one pass over each tensor. The
error names sender, receiver, round and step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from raysplit.cluster.arriving.contents import CONTENTS, Content
from raysplit.cluster.arriving.forms import ANYTHING, SENDER, Expected, NonFiniteValue, at_coordinator, refused
from raysplit.cluster.arriving.verbs import Holds
from raysplit.cluster.arriving.words import shown
from raysplit.cluster.contract import COORDINATOR


class Due(NamedTuple):
    """A value that is due to arrive.

    Attributes:
        content: what it is.
        at: the `StepId` or `RoundContext` of its call, or None.
        given: the arguments of the call, if it is one of them.
    """

    content: str
    at: Any
    given: Mapping[str, Any] = {}


def promised(due: Due | None) -> Due | None:
    """Return what is due as the value of a promise, which is never None."""
    return due if due is None or not due.content.endswith("?") else due._replace(content=due.content.rstrip("?"))


def due_answer(holds: Holds | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Due | None:
    """Return what is due as the answer to a call; None where nothing is checked."""
    return Due(holds.answer, holds.at(args, kwargs)) if holds is not None and holds.answer else None


def due_arguments(holds: Holds | None, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Sequence[Due | None]:
    """Return what is due as each argument of a call, the keyword arguments last; empty where nothing is checked."""
    if holds is None or not holds.contents:
        return ()
    at, given, num_args, names = holds.at(args, kwargs), holds.given(args, kwargs), len(args), tuple(kwargs)
    contents = [holds.content(i, num_args, names) for i in range(num_args + len(names))]
    return [Due(content, at, given) if content else None for content in contents]


def expected(party: Any, source: str, destination: str, due: Due) -> Expected:
    """Return what the receiver expects of a value; the coordinator's expectation depends on who sends it."""
    given = due.given
    if destination == COORDINATOR:
        party, given = at_coordinator.get(), {SENDER: source}
    expects = getattr(party, "expects", None)
    found: Expected = ANYTHING if expects is None else expects(due.content, given)
    return found


def require_form(value: Any, due: Due, source: str, destination: str, wanted: Expected) -> None:
    """Raise `BadValue` for a value of another type, shape or dtype; a coded tensor is taken at what it announces."""
    for piece, content in _pieces(value, due, source, destination):
        if what := content.form(piece, wanted, source):
            raise refused(source, destination, what, due.at)


def require_numbers(value: Any, due: Due, source: str, destination: str, wanted: Expected) -> None:
    """Raise `BadValue` for numbers that cannot be, and `NonFiniteValue` for those that are not finite."""
    tell = partial(wanted.tell, source, due.at) if wanted.tell is not None else None
    if wanted.told is not None and due.content.startswith("loss"):
        wanted.told(source)
    for piece, content in _pieces(value, due, source, destination):
        if what := content.not_finite(piece, wanted, tell):
            raise refused(source, destination, what, due.at, kind=NonFiniteValue)
        if what := content.numbers(piece, wanted):
            raise refused(source, destination, what, due.at)


def _pieces(value: Any, due: Due, source: str, destination: str) -> Sequence[tuple[Any, Content]]:
    """Return the pieces of a value with their checks."""
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
