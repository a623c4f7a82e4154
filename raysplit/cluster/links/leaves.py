"""The leaves of a value: its tensors in nested tuples, lists and mappings, each with the name of its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from raysplit.cluster.links.coded import Coded, CodedSize


def leaves_of(value: Any) -> Mapping[str, Any]:
    """Return the leaves of a value by name."""
    found: dict[str, Any] = {}
    map_leaves(lambda leaf, name: found.setdefault(name, leaf), value, is_leaf)
    return found


def is_leaf(value: Any) -> bool:
    """Return whether a value is a tensor, or a simulated size of tensors, which has ``named_leaves``."""
    return isinstance(value, Tensor) or hasattr(type(value), "named_leaves")


def is_coded_or_leaf(value: Any) -> bool:
    """Return whether a value is a leaf, coded or not."""
    return isinstance(value, Coded | CodedSize) or is_leaf(value)


def map_leaves(function: Callable[[Any, str], Any], value: Any, is_leaf: Callable[[Any], bool], name: str = "") -> Any:
    """Apply a function to leaves and their names in nested tuples, lists and mappings; other values pass through."""
    if is_leaf(value):
        return function(value, name)
    prefix = f"{name}/" if name else ""
    if isinstance(value, tuple):
        items = [map_leaves(function, item, is_leaf, f"{prefix}{i}") for i, item in enumerate(value)]
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [map_leaves(function, item, is_leaf, f"{prefix}{i}") for i, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {key: map_leaves(function, item, is_leaf, f"{prefix}{key}") for key, item in value.items()}
    return value
