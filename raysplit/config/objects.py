"""Convert sections given as Python objects, such as a model class or two data sets, to plain settings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysplit.algorithms.base import Algorithm
from raysplit.data.reading import AS_FOUND, Reading
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sources.arrays import data_set_of_sides
from raysplit.data.sources.map_style import Side, is_array, side_of
from raysplit.experiment.errors import ConfigError
from raysplit.given import digest_of, hold, name_of

NAMED = ("model", "data", "partition", "algorithm")
"""Sections that a ``name`` describes."""


def kind_of(task: Any) -> str | None:
    """Return the kind of task that a section ``task`` names, if it names one."""
    kind = task.get("kind") if isinstance(task, Mapping) else task
    return kind if isinstance(kind, str) else None


def section(key: str, value: Any, task: str | None = None) -> Any:
    """Convert the value of a section to plain settings. Raises `ConfigError` for a value of another type.

    ``task`` is the kind of task, by which the targets of data in hand are read.
    """
    if isinstance(value, Mapping):
        if key not in NAMED or "name" not in value:
            return dict(value)
        rules = replace(reading_of(value), task=task) if key == "data" else AS_FOUND
        return {**value, "name": _name(key, value["name"], rules)}
    if key in ("cluster", "task") and isinstance(value, str):
        return {"kind": value}
    if key == "algorithm" and isinstance(value, Algorithm):
        return {**value.options.model_dump(mode="json"), "name": name_of(type(value))}
    if key in NAMED:
        return {"name": _name(key, value, replace(AS_FOUND, task=task))}
    if key == "seed" or value is None:
        return value
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise ConfigError(f"{key}: expected a mapping of settings, got {_kind(value)}")


def reading_of(settings: Mapping[str, Any]) -> Reading:
    """Return those of the settings of the section ``data`` that say what arrays are. Raises `ConfigError`."""
    names = [field.name for field in fields(Reading) if field.name != "task"]  # which has a section of its own
    try:
        return Reading(**{name: settings[name] for name in names if settings.get(name) is not None})
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _name(key: str, value: Any, rules: Reading = AS_FOUND) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Path):
        return str(value)
    if key == "model":
        return _model(value)
    if key == "data":
        return _data(value, rules)
    if key == "algorithm" and isinstance(value, type) and issubclass(value, Algorithm):
        return name_of(value)
    if key == "partition" and inspect.isroutine(value):
        return name_of(value)
    expected = {
        "algorithm": "a name, a mapping of settings, an Algorithm or its class",
        "partition": "a name, a mapping of settings or a function (labels, num_owners, rng)",
    }
    raise ConfigError(f"{key}: expected {expected[key]}, got {_kind(value)}")


def _model(value: Any) -> str:
    if isinstance(value, nn.Module):
        state = value.state_dict().items()
        weights = [chunk for name, tensor in state for chunk in (name.encode(), _bytes(tensor))]
        return hold(type(value).__qualname__.rpartition(".")[2], value, digest_of(*weights))
    if inspect.isroutine(value) or (isinstance(value, type) and issubclass(value, nn.Module)):
        return name_of(value)
    raise ConfigError(
        f"model: expected a name, a mapping of settings, a torch.nn.Module, its class, or a function that returns one; "
        f"got {_kind(value)}"
    )


def _data(value: Any, rules: Reading) -> str:
    if inspect.isroutine(value):
        return name_of(value)
    found = value if isinstance(value, DataSet) else _two_sides(value, rules)
    sides = [chunk for side in (found.train, found.test) for chunk in _chunks(side)]
    owners = [] if found.test_owner is None else [repr(np.asarray(found.test_owner).tolist()).encode()]
    return hold("data", found, digest_of(*sides, *owners))


def _two_sides(value: Any, rules: Reading) -> DataSet:
    expected = (
        "data: expected a name, a mapping of settings, a DataSet, a function, or a pair (train, test), each side a "
        "map-style set or a pair of arrays (x, y)"
    )
    if not isinstance(value, tuple | list):
        raise ConfigError(f"{expected}; got {_kind(value)}")
    if len(value) != 2:
        raise ConfigError(f"{expected}; got {len(value)} values: {', '.join(_kind(item) for item in value)}")
    try:
        train, test = (_side(side, where, rules) for side, where in zip(value, ("train", "test"), strict=True))
    except TypeError as error:
        raise ConfigError(f"{expected}; {error}") from error
    return data_set_of_sides(train, test, "data", rules)


def _side(value: Any, where: str, rules: Reading) -> Side:
    if is_array(value) or not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        raise TypeError(f"{where} is {_kind(value)}")
    return side_of(value, f"data, {where}", rules)


def _chunks(samples: Samples) -> list[bytes]:
    chunks = []
    for kind, values in (("x", samples.x), ("y", samples.y)):
        named = {kind: values} if isinstance(values, Tensor) else dict(values)
        chunks += [chunk for name, tensor in named.items() for chunk in (name.encode(), _bytes(tensor))]
    return chunks


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return f"{tensor.dtype}{tuple(tensor.shape)}".encode() + flat.view(torch.uint8).numpy().tobytes()


def _kind(value: Any) -> str:
    shown = repr(value)
    kind = f"the class {value.__qualname__}" if isinstance(value, type) else type(value).__name__
    return f"{kind} {shown}" if len(shown) <= 40 and not isinstance(value, type) else kind
