"""Markdown reference of all settings, generated from the configuration classes; ``python -m`` prints it.

The text below a field is its description; its type, default and bounds come from the field.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from raysplit.algorithms import ALGORITHMS
from raysplit.algorithms.base import Algorithm
from raysplit.config.run import RunConfig
from raysplit.data.datasets import dataset_names
from raysplit.data.partition.laws import partition_names
from raysplit.models.zoo import model_names
from raysplit.schedulers.rules import Rules

_INTRODUCTION = """# Configuration

A YAML file with the sections below describes a run; every key has a default. Change single settings with
`--set section.key=value` (the value is YAML, so `--set model.hidden=[64,32]` works). An unknown key is an error that
names the nearest valid key. The run folder keeps the resolved configuration as `config.yaml`.

Without a file, `training.local_epochs` is 5 and, for the optimizer `sgd`, `training.optimizer.lr` is 0.1 where nothing
is said: with these every method learns the built-in digits in ten rounds.

This page is generated from the code by `python -m raysplit.config.reference`.
"""


def reference() -> str:
    """Return the whole page."""
    meaning = descriptions(RunConfig)
    parts = [_INTRODUCTION, f"`seed` (whole number, at least 0; default 0): {meaning['seed']}\n"]
    for name, field in RunConfig.model_fields.items():
        if (kind := _model_in(field.annotation)) is not None:
            parts.append(_section(name, kind))
            parts += [_section(f"{name}.{key}", inner) for key, inner in _optional_sections(kind)]
    parts.append(_algorithms())
    parts.append(f"## Names\n\nModels: {_names(model_names())}.\n\nData sets: {_names(dataset_names())}.\n")
    parts.append(f"Partitions: {_names(partition_names())}.\n")
    return "\n".join(parts)


def _optional_sections(kind: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    found = [(key, _model_in(field.annotation), field.annotation) for key, field in kind.model_fields.items()]
    return [
        (key, inner)
        for key, inner, whole in found
        if inner is not None and issubclass(inner, Rules) and type(None) in typing.get_args(whole)
    ]


def descriptions(kind: type[BaseModel]) -> dict[str, str]:
    """Return the description of each setting of a class, which pydantic takes from the text below the field."""
    return {key: _plain(field.description) for key, field in kind.model_fields.items() if field.description}


def undescribed() -> Iterator[str]:
    """Yield the keys without a description."""
    for name, field in RunConfig.model_fields.items():
        kind = _model_in(field.annotation)
        missing = kind.model_fields.keys() - descriptions(kind).keys() - {"name"} if kind else set()
        yield from (f"{name}.{key}" for key in sorted(missing))


def _section(name: str, kind: type[BaseModel]) -> str:
    summary = _plain(inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0])
    meaning = descriptions(kind)
    rows = [_row(key, field, meaning.get(key, "")) for key, field in kind.model_fields.items()]
    return "\n".join([f"## `{name}`\n", f"{summary}\n", *_HEAD, *rows, ""])


_HEAD = ("| key | values | default | meaning |", "|---|---|---|---|")


def _row(key: str, field: FieldInfo, meaning: str) -> str:
    return f"| `{key}` | {_values(field)} | {_default(field)} | {meaning} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    plain = value.model_dump() if isinstance(value, BaseModel) else value
    return yaml.safe_dump(list(plain) if isinstance(plain, tuple) else plain, default_flow_style=True).split("\n")[0]


def _values(field: FieldInfo) -> str:
    bounds = {type(rule).__name__: rule for rule in field.metadata}
    words = {"Ge": ("at least", "ge"), "Gt": ("above", "gt"), "Le": ("at most", "le"), "Lt": ("below", "lt")}
    rules = [f"{word} {getattr(bounds[rule], at)}" for rule, (word, at) in words.items() if rule in bounds]
    return ", ".join([_type(field.annotation), *rules])


def _type(annotation: Any) -> str:
    words = {int: "whole number", float: "number", str: "text", bool: "true, false", type(None): "null"}
    if annotation in words:
        return words[annotation]
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(option) for option in inside)
    if origin is typing.Annotated:
        return _type(inside[0])
    if origin in (tuple, list):
        return f"list of {_type(inside[0])}"
    return "keys and values"


def _algorithms() -> str:
    parts = [
        "## Algorithms and their options\n\nOptions are keys beside `algorithm.name`. An option that only other "
        "algorithms have is ignored and logged, so that one file serves a comparison.\n"
    ]
    for name, algorithm in ALGORITHMS.items():
        parts.append(f"### `{name}`: {algorithm.title}\n")
        parts.append(_options(algorithm) + "\n")
    return "\n".join(parts)


def _options(algorithm: type[Algorithm]) -> str:
    kind = algorithm.options_type
    meaning = descriptions(kind)
    rows = [_row(key, field, meaning.get(key, "")) for key, field in kind.model_fields.items()]
    prose = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:")[0]
    return "\n".join([_plain(prose), "", *_HEAD, *rows]) if rows else "No options."


def _model_in(annotation: Any) -> type[BaseModel] | None:
    options = [annotation, *typing.get_args(annotation)]
    return next((kind for kind in options if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def _plain(text: str) -> str:
    return re.sub(r"\bNone\b", "null", " ".join(text.split())).replace("``", "`").replace("|", "\\|")


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    sys.stdout.write(reference())
