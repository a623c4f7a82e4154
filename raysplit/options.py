"""Types of the free options of data sets, partitions, models and optimizers, checked by the signature that takes them.

The options of built-in ones are converted to the annotated types, as the rest of a configuration is. A user's own
function gets its options as they are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
)

from raysplit.paths import checked_location, expanded
from raysplit.registry import MOST_SHOWN, clipped, first_lines, nearest, shown

RECORDED = "recorded"
"""Key of the validation context of a recorded configuration, whose paths and names were checked when it was written."""

_STRICT = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)


def is_recorded(info: ValidationInfo) -> bool:
    """Return whether a recorded configuration is read."""
    return bool(info.context and info.context.get(RECORDED))


def _path(value: str, info: ValidationInfo) -> str:
    return value if is_recorded(info) else expanded(value)


PathText = Annotated[str, AfterValidator(_path)]
"""Type of a setting or option that is a path or URI: ``~`` and environment variables are expanded."""


def _location(value: str, info: ValidationInfo) -> str:
    return checked_location(_path(value, info))


LocationText = Annotated[str, AfterValidator(_location)]
"""Type of a setting that is the path or URI of a folder to write to; an empty or half a location is refused."""

MOST_OWNERS = 1_000_000
"""Largest number of owners of a run; some of their records are in memory together."""

Count = Annotated[int, Field(ge=1)]
"""Type of an option that is a number of things, at least one."""

SideLength = Annotated[int, Field(ge=1, le=16_384)]
"""Type of an option that is the side of a picture in pixels."""


class OptionsRefused(ValueError):
    """Exception for options that do not fit; ``problems`` has the key and the message of each.

    ``unknown`` has the keys among them that are no options at all.
    """

    def __init__(self, problems: Mapping[str, str], section: str, unknown: Collection[str] = ()) -> None:
        self.problems = dict(problems)
        self.section = section
        self.unknown = tuple(unknown)
        super().__init__(first_lines([f"{_path_of(section, key)}: {text}" for key, text in problems.items()]))

    def __reduce__(self) -> Any:
        return OptionsRefused, (self.problems, self.section, self.unknown)


def checked_options(
    call: Callable[..., Any],
    options: Mapping[str, Any],
    *,
    name: str,
    section: str = "",
    given: Collection[str] = (),
) -> dict[str, Any]:
    """Return the options as ``call`` takes them.

    Args:
        call: the function or class that gets the options.
        options: the options by name.
        name: what the user calls it, for errors.
        section: the section of the options, for errors.
        given: the parameters that do not come from the user.

    Raises:
        OptionsRefused: an option is unknown, missing, or of another type.
    """
    parameters = {key: p for key, p in inspect.signature(call).parameters.items() if key not in given}
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [key for key, p in parameters.items() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    problems = {
        key: f"is missing; {name} needs it"
        for key in known
        if parameters[key].default is inspect.Parameter.empty and key not in options
    }
    hints, checked = _hints(call), dict(options)
    for key, value in options.items():
        if key in known:
            try:
                checked[key] = _converted(hints.get(key, Any), value)
            except ValidationError as error:
                problems[key] = explained_value(error)
            except ValueError as error:
                problems[key] = str(error)
        elif not takes_any:
            near = nearest(key, known) if len(problems) < MOST_SHOWN else ""
            problems[key] = f"{name} has no such option{near} (known: {', '.join(known) or 'none'})"
    if problems:
        raise OptionsRefused(problems, section, [key for key in options if key in problems and key not in known])
    return checked


def _path_of(section: str, key: str) -> str:
    return f"{section}.{key}" if section else key


def explained_value(error: ValidationError) -> str:
    """Format the errors of one value: the rule, and the part of the value that breaks it."""
    texts = [message(str(item["msg"]), item.get("input")) for item in error.errors()]
    return clipped("; or: ".join(list(dict.fromkeys(texts))[:MOST_SHOWN]), 1_000)


def message(text: str, value: Any) -> str:
    """Format a message of pydantic with the value, where it is short and not in the message."""
    rule = text.removeprefix("Value error, ").replace("Input should be", "must be")
    rule = rule.replace("Field required", "has too few values")
    for text in ("'str' instances are not allowed as a Sequence value", "must be an instance of Sequence"):
        rule = rule.replace(text, "must be a list")
    is_shown = isinstance(value, str | int | float | bool | None) and shown(value) not in rule
    return f"{rule} (got {shown(value)})" if is_shown else rule


def numbers_of(cls: object, given: Any, handler: Callable[[Any], Any]) -> Any:
    """Check the numbers of a field as `checked_numbers` does, after its type; for pydantic's ``field_validator``."""
    return checked_numbers(given, handler(given))


def checked_numbers(given: Any, found: Any) -> Any:
    """Return the typed value ``found`` of what a user gave.

    Raises ``ValueError`` for a truth value where a number is wanted, which pydantic takes for 0 or 1, and for a whole
    number of more than 64 bits, which tensors and files do not take; also inside of a list or a mapping.
    """
    if isinstance(found, bool):
        return found
    if isinstance(found, int | float):
        if isinstance(given, bool):
            raise ValueError(f"must be a number (got {given})")
        if isinstance(found, int) and not -(2**63) <= found < 2**63:
            raise ValueError(f"must be from -2**63 to 2**63 - 1 (got {shown(found)})")
    elif isinstance(found, Mapping):
        for key, value in found.items():
            checked_numbers(given.get(key) if isinstance(given, Mapping) else None, value)
    elif isinstance(found, list | tuple):
        each = given if isinstance(given, list | tuple) and len(given) == len(found) else [None] * len(found)
        for one, value in zip(each, found, strict=True):
            checked_numbers(one, value)
    return found


def _hints(call: Callable[..., Any]) -> dict[str, Any]:
    target: Any = call.__init__ if isinstance(call, type) else call  # type: ignore[misc]
    try:
        return get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError):  # annotations that only a type checker can read
        return {}


def _converted(hint: Any, value: Any) -> Any:
    try:
        kind = TypeAdapter(hint, config=_STRICT)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return value
    found = checked_numbers(value, kind.validate_python(value))
    return Path(expanded(str(found))) if isinstance(found, Path) else found
