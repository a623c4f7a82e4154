"""Convert sections given as Python objects, such as a model class or two data sets, to plain settings."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysplit.algorithms.base import Algorithm
from raysplit.data.samples import DataSet, Samples
from raysplit.data.sources.arrays import checked_inputs, checked_labels, data_set, samples_of, unit_and_normalise
from raysplit.experiment.errors import ConfigError
from raysplit.given import digest_of, hold, name_of

NAMED = ("model", "data", "partition", "algorithm")
"""Sections that a ``name`` describes."""


def section(key: str, value: Any) -> Any:
    """Convert the value of a section to plain settings. Raises `ConfigError` for a value of another type."""
    if isinstance(value, Mapping):
        return {**value, "name": _name(key, value["name"])} if key in NAMED and "name" in value else dict(value)
    if key == "cluster" and isinstance(value, str):
        return {"kind": value}
    if key == "algorithm" and isinstance(value, Algorithm):
        return {**value.options.model_dump(mode="json"), "name": name_of(type(value))}
    if key in NAMED:
        return {"name": _name(key, value)}
    if key == "seed" or value is None:
        return value
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise ConfigError(f"{key}: expected a mapping of settings, got {_kind(value)}")


def _name(key: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Path):
        return str(value)
    if key == "model":
        return _model(value)
    if key == "data":
        return _data(value)
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


def _data(value: Any) -> str:
    if inspect.isroutine(value):
        return name_of(value)
    found = value if isinstance(value, DataSet) else _two_sides(value)
    sides = [chunk for side in (found.train, found.test) for chunk in _chunks(side)]
    owners = [] if found.test_owner is None else [repr(np.asarray(found.test_owner).tolist()).encode()]
    return hold("data", found, digest_of(*sides, *owners))


def _two_sides(value: Any) -> DataSet:
    expected = (
        "data: expected a name, a mapping of settings, a DataSet, a function, or a pair (train, test), each side a "
        "map-style set or a pair of arrays (x, y)"
    )
    if not isinstance(value, tuple | list):
        raise ConfigError(f"{expected}; got {_kind(value)}")
    if len(value) != 2:
        raise ConfigError(f"{expected}; got {len(value)} values: {', '.join(_kind(item) for item in value)}")
    try:
        train, test = (_side(side, where) for side, where in zip(value, ("train", "test"), strict=True))
    except TypeError as error:
        raise ConfigError(f"{expected}; {error}") from error
    return data_set(train, test, transform=unit_and_normalise(None, None))


def _side(value: Any, where: str) -> Samples:
    if isinstance(value, tuple | list) and len(value) == 2 and all(_is_array(item) for item in value):
        x, y = (np.asarray(item) for item in value)
        inputs = checked_inputs(x, f"data, {where}")
        return Samples(x=inputs, y=checked_labels(y, len(inputs), f"data, {where}"))
    if _is_array(value) or not (hasattr(value, "__len__") and hasattr(value, "__getitem__")):
        raise TypeError(f"{where} is {_kind(value)}")
    return samples_of(value, f"data, {where}")


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | Tensor)


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
