"""Error messages about a configuration: the key, the value, the rule and the nearest valid name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from raysplit.experiment.errors import ConfigError as ConfigError
from raysplit.registry import nearest

_TYPES_IN_UNIONS = ("int", "float", "str", "bool", "none")  # pydantic puts them into locations


def explained(error: ValidationError, root: type[BaseModel], section: str = "") -> ConfigError:
    """Convert a pydantic error about ``root`` to one `ConfigError` with a line per mistake.

    ``section`` is the key of the section that ``root`` describes.
    """
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
        return f"unknown key{nearest(str(item['loc'][-1]), valid)} (known: {', '.join(valid) or 'none'})"
    value = item.get("input")
    if item["type"] == "model_type":
        return f"a section must be a mapping of keys to values (got {value!r})"
    message = str(item["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    shown = isinstance(value, str | int | float | bool | None) and repr(value) not in message
    return f"{message} (got {value!r})" if shown else message


def _fields_at(root: type[BaseModel], location: Sequence[Any]) -> list[str]:
    kind: Any = root
    for step in location:
        if isinstance(step, int):  # of a list, whose items have the fields
            continue
        annotation = kind.model_fields[step].annotation
        kind = next((t for t in getattr(annotation, "__args__", ()) if hasattr(t, "model_fields")), annotation)
    return list(kind.model_fields)
