"""What is wrong with a configuration, in the user's words: the key, the value, the rule, the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from raysplit.experiment.errors import ConfigError as ConfigError

_TYPES_IN_UNIONS = ("int", "float", "str", "bool", "none")  # pydantic puts them into locations


def one_of(kind: str, value: str, names: Sequence[str]) -> str:
    """The value, if it is one of the names. Raises ``ValueError`` with the nearest and all names."""
    if value in names:
        return value
    raise ValueError(f"unknown {kind} {value!r}{_nearest(value, names)} (one of {', '.join(names)})")


def known(kind: str, value: str, names: Sequence[str]) -> str:
    """The value, if it is an import path or one of the names. Raises ``ValueError`` as `one_of` does."""
    return value if ":" in value else one_of(kind, value, [*names, "package.module:name"])


def explained(error: ValidationError, root: type[BaseModel], section: str = "") -> ConfigError:
    """Every mistake that pydantic found in a ``root`` as a line of one error; ``section`` is where ``root`` stands."""
    messages: dict[str, list[str]] = {}
    for item in error.errors():
        steps = [*([section] if section else []), *(step for step in item["loc"] if step not in _TYPES_IN_UNIONS)]
        where = ".".join(str(step) for step in steps if not set(str(step)) & set("-[("))
        messages.setdefault(where, []).append(_message(item, root))
    return ConfigError(
        "\n".join(f"{where}: {'; or: '.join(m)}" if where else "; ".join(m) for where, m in messages.items())
    )


def _message(item: Any, root: type[BaseModel]) -> str:
    if item["type"] == "extra_forbidden":
        valid = _fields_at(root, item["loc"][:-1])
        return f"unknown key{_nearest(str(item['loc'][-1]), valid)} (known: {', '.join(valid) or 'none'})"
    value = item.get("input")
    if item["type"] == "model_type":
        return f"a section is a mapping of keys to values (got {value!r})"
    message = str(item["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    shown = isinstance(value, str | int | float | bool | None) and repr(value) not in message
    return f"{message} (got {value!r})" if shown else message


def _nearest(value: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(value, names, 1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def _fields_at(root: type[BaseModel], location: Sequence[Any]) -> list[str]:
    kind: Any = root
    for step in location:
        annotation = kind.model_fields[step].annotation
        kind = next((t for t in getattr(annotation, "__args__", ()) if hasattr(t, "model_fields")), annotation)
    return list(kind.model_fields)
