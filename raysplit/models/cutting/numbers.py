"""Sizes in a graph: which numbers are constants, and which are the size of a tensor in a dimension.

A number that is taken from a shape in front of a cut and used behind it is not sent, and is no constant either, since
batches and sequences have other lengths later. Behind the cut it is read from a dimension of a tensor that crosses. Two
sizes are the same where their keys are equal: an int for a constant, `BATCH` for the number of samples, and otherwise
the symbolic expression that `torch.export` has found, or the sizes seen for b, b + 1 and b samples of lengths t, t and
t + 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, fx, nn

BATCH: Literal["batch"] = "batch"


@dataclass(frozen=True)
class Size:
    """The key of a size that is neither a constant nor the number of samples, and whether it depends on the latter."""

    key: Any
    has_batch: bool


SizeKey: TypeAlias = int | Literal["batch"] | Size
CONSTANT = "constant"
PLAIN_TYPES = (int, float, bool, str, torch.dtype, torch.memory_format, torch.layout, type(None))


class Unsendable(Exception):
    """A value that cannot be sent, or computed again behind a cut; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of the value of a node.

    Attributes:
        value: an example: a tensor on the meta device, or another value.
        sizes: for a tensor the key of each dimension, for a number its key, for a sequence those of its entries, and
            None for everything else.
    """

    value: Any
    sizes: Any

    @property
    def is_tensor(self) -> bool:
        return isinstance(self.value, Tensor)

    @property
    def is_number(self) -> bool:
        """Whether there is no tensor in the value."""
        return not _holds_tensor(self.value)


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return any(_holds_tensor(entry) for entry in value)
    return isinstance(value, Tensor)


def seen_in_runs(root: nn.Module, graph: fx.Graph, batches: Sequence[tuple[Tensor, ...]]) -> dict[fx.Node, Seen]:
    """Run a graph for batches of b, b + 1 and, where lengths differ, b longer samples; return what each node gave."""
    runs = [_run(root, graph, batch) for batch in batches]
    batch = tuple(len(batch[0]) for batch in batches)
    return {node: Seen(value=runs[0][node], sizes=_sizes([run[node] for run in runs], batch)) for node in runs[0]}


def _sizes(values: Sequence[Any], batch: tuple[int, ...]) -> Any:
    first = values[0]
    if isinstance(first, Tensor):
        if any(value.ndim != first.ndim for value in values):
            return None
        return tuple(_size(sizes, batch) for sizes in zip(*(value.shape for value in values), strict=True))
    if isinstance(first, tuple | list):
        if any(len(value) != len(first) for value in values):
            return None
        return tuple(_sizes(entries, batch) for entries in zip(*values, strict=True))
    if type(first) is int:
        return _size(values, batch)
    return CONSTANT if isinstance(first, PLAIN_TYPES) and all(value == first for value in values) else None


def _size(sizes: Sequence[int], batch: tuple[int, ...]) -> SizeKey:
    if tuple(sizes) == batch:
        return BATCH
    return sizes[0] if len(set(sizes)) == 1 else Size(tuple(sizes), has_batch=sizes[0] != sizes[1])


class Numbers:
    """The numbers that a part makes itself, from the shapes of the tensors that cross into it.

    Args:
        seen: what is known of each node.
        crossing: nodes of the tensors that cross.
    """

    def __init__(self, seen: Mapping[fx.Node, Seen], crossing: Sequence[fx.Node]) -> None:
        self.seen = seen
        self.places: dict[SizeKey, tuple[fx.Node, int]] = {}
        for node in crossing:
            for dimension, key in enumerate(seen[node].sizes or ()):
                self.places.setdefault(key, (node, dimension))

    def find(self, node: fx.Node) -> Any:
        """Return the value of a node, a plain value or a tuple, with `Place` for each size and `Device` for devices.

        Raises Unsendable where it depends on the inputs in another way.
        """
        return self._find(node, self.seen[node].value, self.seen[node].sizes)

    def has(self, node: fx.Node) -> bool:
        """Whether the value of a node can be read."""
        try:
            self.find(node)
        except Unsendable:
            return False
        return True

    def _find(self, node: fx.Node, value: Any, sizes: Any) -> Any:
        if isinstance(value, torch.device):
            return Device()
        if isinstance(value, tuple | list) and isinstance(sizes, tuple):
            return tuple(self._find(node, *pair) for pair in zip(value, sizes, strict=True))
        if type(sizes) is int:
            return sizes
        if isinstance(value, PLAIN_TYPES) and sizes == CONSTANT:
            return value
        if isinstance(value, int | torch.SymInt) and sizes in self.places:
            return Place(*self.places[sizes])
        raise Unsendable(f"{node.name!r} would cross it, which is neither a tensor nor a plain number")


@dataclass(frozen=True)
class Place:
    """The size of a crossing tensor in a dimension."""

    node: fx.Node
    dimension: int


@dataclass(frozen=True)
class Device:
    """The device of the crossing tensors."""


class _Recorder(fx.Interpreter):
    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__(root, graph=graph)
        self.seen: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.seen[n] = torch.empty_like(value, device="meta") if isinstance(value, Tensor) else value
        return value


def _run(root: nn.Module, graph: fx.Graph, values: tuple[Tensor, ...]) -> dict[fx.Node, Any]:
    """Return the value of every node, with tensors on the meta device."""
    recorder = _Recorder(root, graph)
    with torch.no_grad():
        recorder.run(*values)
    return recorder.seen
