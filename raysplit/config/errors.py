"""Error messages about a configuration: the key, the value, the rule and the nearest valid name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from raysplit.experiment.errors import ConfigError as ConfigError
from raysplit.options import OptionsRefused, message
from raysplit.registry import MOST_SHOWN, clipped, first_lines, nearest, shown

_TYPES_IN_UNIONS = ("int", "float", "str", "bool", "none")  # pydantic puts them into locations


def explained(error: ValidationError, root: type[BaseModel], given: object, section: str = "") -> ConfigError:
    """Convert a pydantic error about ``root`` to one `ConfigError` with a line per mistake.

    The first mistakes are told and the others counted, so that a file of thousands has a message too.

    Args:
        error: the error.
        root: the class that refused the settings.
        given: the settings, which tell the keys of a user from pydantic's own names in locations.
        section: the key of the section that ``root`` describes.
    """
    messages: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        where = ".".join([*([section] if section else []), *_keys(item["loc"], given)])
        refused = item.get("ctx", {}).get("error")
        if isinstance(refused, OptionsRefused):
            own = _fields_at(root, item["loc"])
            for key, text in refused.problems.items():
                found = messages.setdefault(f"{where}.{key}", [])
                is_told = key not in refused.unknown or "did you mean" in text or len(messages) > MOST_SHOWN
                found.append(text if is_told else text + _meant(key, own, where))
        else:
            found = messages.setdefault(where, [])
            if len(messages) <= MOST_SHOWN:  # to find the nearest key takes its time
                found.append(_message(item, root, section))
    return ConfigError(first_lines([_line(where, texts) for where, texts in messages.items()]))


def _line(where: str, texts: Sequence[str]) -> str:
    return f"{clipped(where, 200)}: {'; or: '.join(texts)}" if where else "; ".join(texts)


def _keys(location: Sequence[Any], given: object) -> list[str]:
    """Return the keys and positions of a location, without what pydantic adds for unions and mappings."""
    found = []
    for step in location:
        is_key = isinstance(given, Mapping) and step in given
        if is_key or (isinstance(given, list | tuple) and isinstance(step, int) and step < len(given)):
            given = given[step]  # type: ignore[index]
        elif step in _TYPES_IN_UNIONS or set(str(step)) & set("-[("):
            continue
        found.append(str(step))
    return found


def _message(item: Any, root: type[BaseModel], section: str) -> str:
    if item["type"] == "extra_forbidden":
        valid, key = _fields_at(root, item["loc"][:-1]), str(item["loc"][-1])
        within = ".".join([*([section] if section else []), *(str(step) for step in item["loc"][:-1])])
        return f"unknown key{_suggested(key, valid, within)} (known: {', '.join(valid) or 'none'})"
    value = item.get("input")
    if item["type"] == "model_type":
        return f"a section must be a mapping of keys to values (got {shown(value)})"
    return message(str(item["msg"]), value)


def _suggested(key: str, valid: Sequence[str], within: str) -> str:
    """Return the key of the same section that is meant, or else the path of a setting of this name elsewhere."""
    if any(_bare(name) == _bare(key) for name in valid):
        return nearest(key, valid)
    elsewhere = [path for path in _key_paths() if _bare(path.rpartition(".")[2]) == _bare(key)]
    # the closest one: below the same section, then the least deep
    elsewhere.sort(key=lambda path: (not path.startswith(f"{within}."), path.count(".")))
    return f"; did you mean {elsewhere[0]!r}?" if elsewhere else nearest(key, valid)


def _meant(key: str, own: Sequence[str], within: str) -> str:
    """Return the setting that is meant by an option that the named part does not have: of its section, or elsewhere."""
    return nearest(key, own) or _suggested(key, (), within)


def _bare(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "")


def _key_paths() -> list[str]:
    """Return the paths of all settings, with the options of the built-in algorithms."""
    from raysplit.algorithms import ALGORITHMS
    from raysplit.config.run import RunConfig  # which needs this module for its own errors

    options = [f"algorithm.{key}" for kind in ALGORITHMS.values() for key in kind.options_type.model_fields]
    return [*_paths_below(RunConfig, ""), *dict.fromkeys(options)]


def _paths_below(kind: type[BaseModel], prefix: str) -> Iterator[str]:
    for key, field in kind.model_fields.items():
        yield f"{prefix}{key}"
        inner = section_type(field.annotation)
        if inner is not None:
            yield from _paths_below(inner, f"{prefix}{key}.")


def section_type(annotation: Any) -> type[BaseModel] | None:
    """Return the section class of a field, also of one that may be missing; None for a single value."""
    kinds = (annotation, *get_args(annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _fields_at(root: type[BaseModel], location: Sequence[Any]) -> list[str]:
    kind: Any = root
    for step in location:
        fields = getattr(kind, "model_fields", {})
        if step in fields:
            kind = section_type(fields[step].annotation)
    return [field.alias or name for name, field in getattr(kind, "model_fields", {}).items()]
