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
from raysplit.algorithms.unused import losses_of, unused_by
from raysplit.config.errors import section_type
from raysplit.config.run import RunConfig
from raysplit.data.datasets import dataset_names
from raysplit.data.partition.laws import partition_names
from raysplit.models.zoo import model_names
from raysplit.runs.report_page import markdown_table
from raysplit.schedulers.rules import Rules

_INTRODUCTION = """# Configuration

A YAML file with the sections below describes a run; every key has a default. Change single settings with `--set
section.key=value` (the value is YAML, so `--set model.hidden=[64,32]` works). An unknown key is an error that names
the nearest valid key, and a key that is there twice is an error too. The run folder keeps the resolved
configuration as `config.yaml`.

Values are read as YAML 1.2 says: `5e-4` is a number; `no`, `on` and `2026-01-02` are text. Where the table says
text, a plain value is taken letter by letter, so that a run may be named `123`. In paths, `~` and environment
variables (`$SCRATCH/runs`) are expanded, in files, in options and from Python. The options of built-in models, data
sets, partitions and optimizers have the types of the functions that take them. The name of a run has letters a-z,
digits and `.` `_` `-`, and begins with a letter, a digit or `_`.

Without a file, `training.local_epochs` is 5 and, for the optimizer `sgd`, `training.optimizer.lr` is 0.1 where nothing
is said: with these every method learns the built-in digits in ten rounds.

This page is generated from the code by `python -m raysplit.config.reference`.
"""


def reference() -> str:
    """Return the whole page."""
    meaning = descriptions(RunConfig)
    parts = [_INTRODUCTION, f"`seed` (whole number, at least 0; default 0): {meaning['seed']}\n"]
    for name, field in RunConfig.model_fields.items():
        if (kind := section_type(field.annotation)) is not None:
            parts.append(_section(name, kind))
            parts += [_section(f"{name}.{key}", inner) for key, inner in _optional_sections(kind)]
    parts.append(_algorithms())
    parts.append(_unused())
    parts.append(f"## Names\n\nModels: {_names(model_names())}.\n\nData sets: {_names(dataset_names())}.\n")
    parts.append(f"Partitions: {_names(partition_names())}.\n")
    return "\n".join(parts)


def _optional_sections(kind: type[BaseModel]) -> list[tuple[str, type[BaseModel]]]:
    found = [(key, section_type(field.annotation), field.annotation) for key, field in kind.model_fields.items()]
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
        kind = section_type(field.annotation)
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
        return " or ".join(dict.fromkeys(_type(option) for option in inside))
    if origin is typing.Annotated:
        return _type(inside[0])
    if origin in (tuple, list):
        return f"list of {_type(inside[0])}"
    return "keys and values"


def _algorithms() -> str:
    parts = [
        "## Algorithms and their options\n\nOptions are keys beside `algorithm.name`. An option that only other "
        "algorithms have is left out with a warning, so that one file serves a comparison.\n"
    ]
    for name, algorithm in ALGORITHMS.items():
        parts.append(f"### `{name}`: {algorithm.title}\n")
        parts.append(options_table(algorithm) + "\n")
    return "\n".join(parts)


def _unused() -> str:
    """Describe which shared settings each method uses, as a table, and why it refuses the others."""
    unused = {name: unused_by(method) for name, method in ALGORITHMS.items()}
    keys = [
        key for section in RunConfig.model_fields for key in _keys(section) if any(key in u for u in unused.values())
    ]
    losses = {
        name: _names(losses_of(method)).replace("`any task`", "any task") or "any"
        for name, method in ALGORITHMS.items()
    }
    rows = {f"`{key}`": ["no" if key in unused[name] else "yes" for name in ALGORITHMS] for key in keys}
    rows["`training.loss`"] = list(losses.values())
    reasons: dict[str, dict[str, list[str]]] = {}
    for name, own in unused.items():
        for key, reason in own.items():
            reasons.setdefault(reason, {}).setdefault(key, []).append(name)
    lines = []
    for reason, found in reasons.items():
        with_it = list(dict.fromkeys(name for names in found.values() for name in names))
        lines.append(f"* {reason}: {_names(list(found))} with {_names(with_it)}")
    head = ["setting", *(f"`{name}`" for name in ALGORITHMS)]
    return "\n".join(
        [
            "## Settings and methods\n",
            "Every method uses every setting of `training`, `evaluation`, `reliability`, `owners` and `links`, except "
            "for those in this table. A run that sets one for a method that does not use it is refused, and so is an "
            "elastic run of a method that cannot be one. Codecs of `links` for values that a method does not send are "
            "left out with a warning, so that one file serves a comparison.\n",
            markdown_table(head, [[key, *cells] for key, cells in rows.items()]),
            "\nThe reasons:\n",
            *lines,
            "",
        ]
    )


def _keys(section: str) -> list[str]:
    kind = section_type(RunConfig.model_fields[section].annotation)
    return [f"{section}.{key}" for key in kind.model_fields] if kind else []


def options_table(algorithm: type[Algorithm]) -> str:
    """Return the table of a method's own options, below what its class says of them."""
    kind = algorithm.options_type
    meaning = descriptions(kind)
    rows = [_row(key, field, meaning.get(key, "")) for key, field in kind.model_fields.items()]
    prose = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:")[0]
    return "\n".join([_plain(prose), "", *_HEAD, *rows]) if rows else "No options."


def _plain(text: str) -> str:
    return re.sub(r"\bNone\b", "null", " ".join(text.split())).replace("``", "`").replace("|", "\\|")


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    sys.stdout.write(reference())
