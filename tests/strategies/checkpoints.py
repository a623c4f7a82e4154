"""Strategies for what a checkpoint holds: fields, states of parties, tensors, plain values, one of them changed."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from strategies.values import anything

Place = tuple[Any, ...]


class Change:
    """What was done to a value at a place, and all that the checkpoint then holds."""

    def __init__(self, what: str, place: Place, content: dict[str, Any]) -> None:
        self.what, self.place, self.content = what, place, content

    def __repr__(self) -> str:
        return f"Change({self.what!r}, {self.place!r})"


def places(tree: Any, at: Place = ()) -> Iterator[Place]:
    """Yield the place of every value of a tree of mappings, lists and tuples."""
    if at:
        yield at
    for key in tree if isinstance(tree, Mapping) else range(len(tree)) if isinstance(tree, list | tuple) else ():
        yield from places(tree[key], (*at, key))


def at(tree: Any, place: Place) -> Any:
    """Return the value at a place of a tree."""
    for key in place:
        tree = tree[key]
    return tree


def put(tree: Any, place: Place, value: Any) -> Any:
    """Return a tree with another value at a place; tuples on the way are made anew."""
    if not place:
        return value
    key, *rest = place
    changed = put(tree[key], tuple(rest), value)
    if isinstance(tree, tuple):
        return (*tree[:key], changed, *tree[key + 1 :])
    tree[key] = changed
    return tree


def removed(tree: Any, place: Place) -> Any:
    """Return a tree without the value at a place."""
    *above, last = place
    holder = at(tree, tuple(above))
    if isinstance(holder, tuple):
        return put(tree, tuple(above), (*holder[:last], *holder[last + 1 :]))
    del holder[last]
    return tree


def other_forms(tensor: Tensor) -> list[Tensor]:
    """Return tensors of other types and shapes with the same values."""
    types = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool)
    forms = [tensor.to(kind) for kind in types if kind is not tensor.dtype]
    forms += [tensor[None], tensor.reshape(-1), tensor[:0] if tensor.ndim else tensor[None], tensor.new_zeros(())]
    forms += [tensor.transpose(0, -1)] if tensor.ndim > 1 else []
    return [form for form in forms if (form.dtype, form.shape) != (tensor.dtype, tensor.shape)]


def other_plain(value: Any) -> list[Any]:
    """Return other values of the same type, as a slip of the hand would leave them."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, -value - 1, 0 if value else 7]
    if isinstance(value, float):
        return [value / 2 + 0.25, -value - 1.0, float("nan"), float("inf")]
    if isinstance(value, str):
        return [value + "x", value[:-1] or "y"]
    return []


def changed_contents(content: Mapping[str, Any], among: Sequence[str] = ()) -> st.SearchStrategy[Change]:
    """What a checkpoint holds with one change, in one of the fields ``among`` where they are given.

    Values are replaced by others of their type or of any type, removed, renamed, added, or swapped with those of
    another place; tensors get other types, shapes and values.
    """

    @st.composite
    def changed(draw: st.DrawFn) -> Change:
        return _changed(draw, content, among)

    return changed()


def _changed(draw: st.DrawFn, content: Mapping[str, Any], among: Sequence[str]) -> Change:
    tree: Any = copy.deepcopy(dict(content))
    found = list(places(tree))
    top = draw(st.sampled_from(among or sorted(tree)))  # rows and settings have many values, states of parties few
    place = draw(st.sampled_from([place for place in found if place[0] == top]))
    value = at(tree, place)
    what = draw(st.sampled_from(["form", "form", "value", "value", "swap", "swap", "remove", "rename", "add", "any"]))
    if what == "form" and isinstance(value, Tensor):
        return Change(what, place, put(tree, place, draw(st.sampled_from(other_forms(value)))))
    if what in ("form", "value") and isinstance(value, Tensor) and value.numel():
        shifted = ~value if value.dtype is torch.bool else value + 1
        spoilt = [shifted, value * float("nan"), value / 0] if value.is_floating_point() else [shifted]
        return Change("value", place, put(tree, place, draw(st.sampled_from(spoilt))))
    if what in ("form", "value") and (others := other_plain(value)):
        return Change("value", place, put(tree, place, draw(st.sampled_from(others))))
    if what == "swap":
        alike = [p for p in found if len(p) == len(place) and p != place]
        level = [p for p in alike if p[:-1] == place[:-1] or p[-1] == place[-1]]
        if level:
            other = draw(st.sampled_from(level))
            theirs = at(tree, other)
            return Change(what, place, put(put(tree, place, theirs), other, value))
    if what == "rename" and isinstance(holder := at(tree, place[:-1]), dict):
        key = draw(st.sampled_from([f"{place[-1]}x", 0, "", "average"]))
        holder[key] = holder.pop(place[-1])
        return Change(what, place, tree)
    if what == "add" and isinstance(value, dict):
        value[draw(st.sampled_from(["more", 0, "owner-9"]))] = draw(st.sampled_from([1, {}, None]))
        return Change(what, place, tree)
    if what == "remove":
        return Change(what, place, removed(tree, place))
    return Change("any", place, put(tree, place, draw(anything)))
