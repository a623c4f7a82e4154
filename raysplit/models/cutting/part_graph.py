"""The graph of one part: the nodes between two positions, with what the part gets and what it computes again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx

from raysplit.models.cutting.cut_names import PositionNames
from raysplit.models.cutting.cut_tensors import Crossings
from raysplit.models.cutting.numbers import Device, Place

TRACE_DEVICE = torch.device("meta")
"""Device in the arguments of an exported graph, which stands for the device of the part."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CutGraph:
    """A graph with the values that cross each of its positions, the names of these, and how it was found."""

    graph: fx.Graph
    crossings: Crossings
    names: PositionNames
    front_end: Literal["fx", "export", "export_cpu", "chain"] = "fx"

    def part(self, lo: int, hi: int | None) -> fx.Graph:
        """Make the graph of a part, see `part_graph`."""
        return part_graph(self.graph, self.crossings, lo, hi)


def part_graph(graph: fx.Graph, crossings: Crossings, lo: int, hi: int | None) -> fx.Graph:
    """Make the graph of the nodes after position `lo` up to `hi`, or up to the output if `hi` is None."""
    part = fx.Graph()
    known: dict[fx.Node, Any] = {}
    for node in crossings.tensors(lo):
        is_input = lo == 0 and node.op == "placeholder"  # a named input keeps the name of its parameter
        known[node] = part.placeholder(str(node.target) if is_input else node.name)
    entered = next(iter(known.values()), None)
    device: list[fx.Node] = []

    def here(value: Any) -> Any:
        if isinstance(value, fx.Node):
            if value not in known:
                assert value.op == "get_attr"
                known[value] = part.node_copy(value)
            return known[value]
        if value == TRACE_DEVICE and isinstance(value, torch.device):
            return own_device()
        return value

    def own_device() -> fx.Node:
        if not device:
            device.append(part.call_function(getattr, (entered, "device")))
        return device[0]

    def copied(node: fx.Node) -> fx.Node:
        args, kwargs = fx.node.map_aggregate((node.args, node.kwargs), here)
        made = part.create_node(node.op, node.target, args, kwargs, node.name)
        made.meta = {key: node.meta[key] for key in ("nn_module_stack",) if key in node.meta}
        return made

    def made(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(made(entry) for entry in value)
        if isinstance(value, Place):
            return part.call_method("size", (known[value.node], value.dimension))
        return own_device() if isinstance(value, Device) else value

    numbers = crossings.numbers(lo)
    for node in crossings.made_again(lo):
        is_number = not crossings.facts.seen[node].is_tensor and numbers.has(node)
        known[node] = made(numbers.find(node)) if is_number else copied(node)
    for node in crossings.nodes[lo:hi]:
        known[node] = copied(node)
    if hi is None:
        (output,) = graph.find_nodes(op="output")
        part.output(fx.node.map_aggregate(output.args[0], here))
    else:
        leaving = tuple(known[node] for node in crossings.tensors(hi))
        part.output(leaving[0] if len(leaving) == 1 else leaving)
    return part
