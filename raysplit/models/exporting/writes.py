"""Writes in place in an exported graph: to new tensors where nothing else sees them, and else where no cut may lie.

What a part receives is read-only, and a tensor that crosses a cut is sent once. A write such as ``relu_`` therefore
makes a new tensor, which later uses read. Where the tensor has a second name, a view that is used later, the write
stays, and the model is not cut between the making of the tensor and the last write. Writes to buffers of the model stay
as well, since these are the state of the part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from raysplit.models.cutting.tracing import CannotCut
from raysplit.models.exporting.facts import VALUE

_STATISTICS = {"batch_norm": (3, 4, 5), "instance_norm": (3, 4, 5)}
"""Operators that write running statistics: positions of the mean, the variance and whether they do."""


@dataclass(frozen=True, kw_only=True)
class Writes:
    """The writes that are left in a graph.

    Attributes:
        state: names of the buffers that are written.
        before: for each node that uses a tensor which was written through a view, the writes before it.
        closed: spans of nodes between which the model is not cut.
    """

    state: frozenset[str]
    before: Mapping[fx.Node, tuple[fx.Node, ...]]
    closed: Sequence[tuple[fx.Node, fx.Node]]


def write_to_new_tensors(graph: fx.Graph, root: nn.Module) -> Writes:
    """Let writes in place make new tensors where that changes nothing else, and return the other writes.

    Raises `CannotCut` for a write to an input through a view.
    """
    bases = _bases(graph)
    order = {node: number for number, node in enumerate(graph.nodes)}
    state: set[str] = set()
    kept: dict[fx.Node, list[fx.Node]] = {}
    for node in list(graph.nodes):
        state |= {str(value.target) for value in _written_statistics(node) if value.op == "get_attr"}
        if not _writes(node):
            continue
        written: fx.Node = node.args[0]
        base = bases[written]
        if base.op == "get_attr":
            state.add(str(base.target))
        elif base in kept or _is_seen_later(node, written, base, bases, order):
            if base.op == "placeholder":
                raise CannotCut(f"its forward writes to its input {base.target!r} through a view; write to a copy")
            kept.setdefault(base, []).append(node)
        else:
            bases[node] = _make_new(graph, node, written, order)
            bases.setdefault(bases[node], bases[node])
    before = {}
    for node in graph.nodes:
        earlier = [w for source in node.all_input_nodes for w in kept.get(bases[source], ()) if order[w] < order[node]]
        if earlier:
            before[node] = tuple(earlier)
    return Writes(state=frozenset(state), before=before, closed=[(base, last[-1]) for base, last in kept.items()])


def _bases(graph: fx.Graph) -> dict[fx.Node, fx.Node]:
    """Return for each node the one that made the memory of its value."""
    bases: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        source = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        bases[node] = bases[source] if source is not None and _shares_memory(node) else node
    return bases


def _shares_memory(node: fx.Node) -> bool:
    if not isinstance(node.target, torch._ops.OpOverload):
        return getattr(node.target, "__name__", "") == "getitem"
    return any(value.alias_info is not None for value in node.target._schema.returns)


def _writes(node: fx.Node) -> bool:
    if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload) or not node.args:
        return False
    first = node.target._schema.arguments[0]
    return isinstance(node.args[0], fx.Node) and first.alias_info is not None and first.alias_info.is_write


def _written_statistics(node: fx.Node) -> list[fx.Node]:
    packet = getattr(node.target, "overloadpacket", None)
    places = _STATISTICS.get(getattr(packet, "__name__", ""))
    if places is None or not node.args[places[2]]:
        return []
    return [value for value in (node.args[places[0]], node.args[places[1]]) if isinstance(value, fx.Node)]


def _is_seen_later(
    node: fx.Node, written: fx.Node, base: fx.Node, bases: Mapping[fx.Node, fx.Node], order: Mapping[fx.Node, int]
) -> bool:
    """Whether another name of the written memory, made before the write, is used after it."""
    others = [n for n in order if bases.get(n) is base and n not in (node, written) and order[n] < order[node]]
    return any(order[user] > order[node] for other in others for user in other.users if user in order)


def _make_new(graph: fx.Graph, node: fx.Node, written: fx.Node, order: dict[fx.Node, int]) -> fx.Node:
    """Let a write make a new tensor that later uses of the written one read; return the node that makes its memory."""
    number, maker = order[node], node
    pure = _pure(node.target)
    if pure is not None:
        node.target = pure
    else:
        with graph.inserting_before(node):
            copied = graph.call_function(torch.ops.aten.clone.default, (written,))
        copied.meta = {**node.meta, VALUE: written.meta.get(VALUE)}
        order[copied], maker = number, copied
        node.args = (copied, *node.args[1:])
    written.replace_all_uses_with(
        node, delete_user_cb=lambda user: user not in (node, *node.all_input_nodes) and order.get(user, number) > number
    )
    return maker


def _pure(target: Any) -> Any:
    """Return the operator that makes a new tensor instead, if it takes the same arguments."""
    packet = getattr(torch.ops.aten, target._schema.name.removeprefix("aten::").removesuffix("_"), None)
    name = target._overloadname
    if packet is None or name not in packet.overloads():
        return None
    pure = getattr(packet, name)
    same = [a.name for a in pure._schema.arguments] == [a.name for a in target._schema.arguments]
    return pure if same and not any(value.alias_info for value in pure._schema.returns) else None
