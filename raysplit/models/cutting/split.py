"""Cuts of a model into parts that together compute, bit for bit, what the whole model computes.

Split learning (Gupta, Raskar, 2018, arXiv 1810.06060) trains a network whose parts are in different places. The
tensors that cross a cut in the forward pass are the *smashed data*, and their gradients return. Any model that torch.fx
can trace can be cut, at almost any node; inside a residual block several tensors cross, each once.

    traced = trace(model, example)
    first, last = traced.cut([2])               # nn.Sequential: after two units
    first, last = traced.cut(["layer2"])        # any model: after this module
    z = first(x); g = ...; z.backward(g)
    merge([first.state_dict(), last.state_dict()], like=model)
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from torch import Tensor, fx, nn

from raysplit.data.inputs import Values
from raysplit.models.cutting.cut_names import PositionNames, name_positions
from raysplit.models.cutting.cut_tensors import Crossings
from raysplit.models.cutting.places import near_names
from raysplit.models.cutting.same_model import check_same_model, check_same_output
from raysplit.models.cutting.tracing import CannotCut, leaf, trace_graph, unchanged

ALL_PLACES = "raysplit cuts lists all places"

__all__ = ["CutPoint", "TracedModel", "leaf", "merge", "trace"]


@dataclass(frozen=True, kw_only=True)
class CutPoint:
    """A place where a model can be cut.

    Attributes:
        index: number of the place, from 1.
        name: module or function after which it lies, such as "layer1.0.bn1"; "#2" marks a second call.
        shapes: shapes of the tensors that cross, without the batch dimension.
        num_bytes_per_sample: bytes of all of these tensors for one sample.
        unit: number of whole units before the place, or None inside a unit.
    """

    index: int
    name: str
    shapes: tuple[tuple[int, ...], ...]
    num_bytes_per_sample: int
    unit: int | None


@dataclass(frozen=True, kw_only=True, eq=False)
class TracedModel:
    """A traced model that can be cut; `trace` returns it.

    Attributes:
        root: module with the state of the graph, which shares parameters and buffers with the traced model.
        graph: the graph of the model.
        crossings: values that cross each position of the graph.
        names: names of these positions.
        cut_points: places where the model can be cut, from input to output.
        units: names of the units, which are the children of an ``nn.Sequential``, or else the steps between two
            cut points.
        unit_ends: positions in the graph before the first unit and after each unit.
    """

    root: nn.Module
    graph: fx.Graph
    crossings: Crossings
    names: PositionNames
    cut_points: tuple[CutPoint, ...]
    units: tuple[str, ...]
    unit_ends: tuple[int, ...]

    def copy(self) -> TracedModel:
        """Return a copy with its own parameters and buffers."""
        return replace(self, root=copy.deepcopy(self.root))

    def resolve(self, cut: int | str) -> int:
        """Return the position of a cut in the graph, from 0 to `crossings.end`.

        Args:
            cut: an int k for "after k units", from 0 to ``len(units)``, or the name of a module, after its last call.

        Raises:
            ValueError: for a place that does not exist or where the model cannot be cut.
        """
        position = self._place(cut)
        if position > 0 and (reason := self.crossings.objection(position)):
            raise ValueError(f"cannot cut at {cut!r}: {reason}; {self._legal_cuts(position)}")
        return position

    def cut(self, cuts: Sequence[int | str]) -> list[nn.Module]:
        """Cut the model into ``len(cuts) + 1`` parts.

        Args:
            cuts: places from input to output, see `resolve`; equal cuts have an empty part between them.

        Returns:
            The parts in order. A part takes the tensors that cross into it as positional arguments and returns those
            that leave it, a Tensor or a tuple; the last part returns the output of the model. Parts keep the names of
            the model in their state dicts, and share their parameters and buffers with `root`.

        Raises:
            ValueError: for a place where the model cannot be cut, and for cuts that are not in order.
        """
        places = [self._place(cut) for cut in cuts]
        if places != sorted(places):
            raise ValueError(f"cuts must go from input to output, got {list(cuts)}; {ALL_PLACES}")
        if in_two_parts := self.crossings.shared_state(places):
            name, first, last = in_two_parts
            raise ValueError(f"{name!r} would be in part {first} and in part {last}; {ALL_PLACES}")
        positions = [self.resolve(cut) for cut in cuts]
        shared = {id(tensor): tensor for tensor in [*self.root.parameters(), *self.root.buffers()]}
        root = copy.deepcopy(self.root, memo=dict(shared))
        bounds = [0, *positions]
        parts = [self._part(root, lo, hi) for lo, hi in pairwise(bounds)]
        return [*parts, self._part(root, bounds[-1], None)]

    def _part(self, root: nn.Module, lo: int, hi: int | None) -> fx.GraphModule:
        """Make a part of the nodes after position `lo` up to `hi`, or up to the output if `hi` is None."""
        part = fx.Graph()
        known: dict[fx.Node, Any] = {}
        for node in self.crossings.tensors(lo):
            is_input = lo == 0 and node.op == "placeholder"  # a named input keeps the name of its parameter
            known[node] = part.placeholder(str(node.target) if is_input else node.name)
        numbers = self.crossings.numbers(lo)
        if numbers:
            first = next(iter(known.values()))
            batch_size = part.call_method("size", (first, 0))
            device = part.call_function(getattr, (first, "device"))
            known |= {node: self.crossings.remake(node, batch_size, device) for node in numbers}

        def here(node: fx.Node) -> Any:
            if node not in known:
                assert node.op == "get_attr"
                known[node] = part.node_copy(node)
            return known[node]

        for node in self.crossings.nodes[lo:hi]:
            args, kwargs = fx.map_arg((node.args, node.kwargs), here)
            known[node] = part.create_node(node.op, node.target, args, kwargs, node.name)
        if hi is None:
            (output,) = self.graph.find_nodes(op="output")
            part.output(fx.map_arg(output.args[0], here))
        else:
            leaving = tuple(known[node] for node in self.crossings.tensors(hi))
            part.output(leaving[0] if len(leaving) == 1 else leaving)
        module = fx.GraphModule(root, part, class_name="Part")
        _leave_out_of_state(module, root)
        module.training = root.training
        part.owning_module = None  # this cycle would keep dropped weights in memory until the garbage collector runs
        return module

    def _place(self, cut: int | str) -> int:
        if isinstance(cut, str):
            position = self.names.find(cut)
        else:
            position = self.unit_ends[cut] if 0 <= cut < len(self.unit_ends) else None
        if position is None:
            near = near_names(cut, self.names.all()) if isinstance(cut, str) else ""
            raise ValueError(
                f"no place to cut {cut!r}{near}; give 0..{len(self.units)}, the units before the cut, or the name of a "
                f"module; {ALL_PLACES}"
            )
        return position

    def _legal_cuts(self, position: int) -> str:
        """Name the nearest places before and after a position where the model can be cut."""
        legal = [self.crossings.position(node) for node in self.crossings.nodes]
        legal = [p for p in legal if p < self.crossings.end and self.crossings.objection(p) is None]
        near = [*[p for p in legal if p < position][-1:], *[p for p in legal if p > position][:1]]
        if not near:
            return "there is no place inside this model to cut it"
        return f"the nearest places are {' and '.join(repr(self.names.names[p - 1]) for p in near)}; {ALL_PLACES}"


def trace(model: nn.Module, example: Values, *, kept_back: Collection[str] = frozenset()) -> TracedModel:
    """Trace a model and find the places where it can be cut.

    Args:
        model: the model; it runs on the example in evaluation mode and is not changed.
        example: a batch [B, ...] of inputs, or batches by the names of the parameters of ``forward``; one sample is
            enough.
        kept_back: names of inputs that must stay in the first part; the model is not cut where one would cross.

    Returns:
        The traced model, whose method ``cut`` makes the parts.

    Raises:
        ValueError: for a model that torch.fx cannot trace, whose graph has other outputs or gradients than the model as
            written, or with parameters or buffers that it never uses.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> first, last = trace(model, torch.zeros(1, 4)).cut([2])
        >>> last(first(torch.zeros(3, 4))).shape
        torch.Size([3, 2])
    """
    found = traced_model(model, example, kept_back=kept_back)
    check_same_model(model, found.root, found.graph, example)
    return found


def traced_model(model: nn.Module, example: Values, *, kept_back: Collection[str] = frozenset()) -> TracedModel:
    """Trace a model as `trace` does, without the comparison of gradients, which takes some backward passes."""
    traced = trace_graph(model, example)
    root, graph = traced.root, traced.graph
    check_same_output(model, root, graph, example)
    with unchanged(root):
        root.eval()
        crossings = Crossings(root, graph, example, kept_back)
    names = name_positions(crossings.nodes)
    legal = [position for position in range(1, crossings.end) if crossings.objection(position) is None]
    if traced.unit_ends:
        units = [name for name, _ in traced.unit_ends]
        unit_ends = [0, *(crossings.position(node) for _, node in traced.unit_ends)]
    else:
        unit_ends = [0, *legal, crossings.end]
        units = [names.names[position - 1] for position in unit_ends[1:]]
    num_units = {position: number for number, position in enumerate(unit_ends)}
    cut_points = []
    for index, position in enumerate(legal, start=1):
        samples = crossings.samples(position)
        point = CutPoint(
            index=index,
            name=names.names[position - 1],
            shapes=tuple(sample.shape for sample in samples),
            num_bytes_per_sample=sum(sample.num_bytes for sample in samples),
            unit=num_units.get(position),
        )
        cut_points.append(point)
    found = TracedModel(
        root=root,
        graph=graph,
        crossings=crossings,
        names=names,
        cut_points=tuple(cut_points),
        units=tuple(units),
        unit_ends=tuple(unit_ends),
    )
    (whole,) = found.cut([])
    if idle := model.state_dict().keys() - whole.state_dict().keys():
        raise CannotCut(f"{_some(idle)} of {type(model).__name__} are never used in its forward; remove them")
    return found


def _leave_out_of_state(part: nn.Module, root: nn.Module) -> None:
    """Keep out of the part's state dict the buffers that are not in the root's; before torch 2.13 all of them enter."""
    kept = root.state_dict().keys()
    for path, buffer in list(part.named_buffers(remove_duplicate=False)):
        if path not in kept:
            owner, _, name = path.rpartition(".")
            part.get_submodule(owner).register_buffer(name, buffer, persistent=False)


def merge(states: Sequence[Mapping[str, Tensor]], like: nn.Module) -> dict[str, Tensor]:
    """Merge the state dicts of all parts into that of the whole model.

    Args:
        states: state dict of each part, in any order.
        like: the whole model, whose keys and order of keys the result has.

    Returns:
        The state dict of the whole model; tensors are not copied.

    Raises:
        ValueError: when a key is missing, is in two parts or is not the model's.

    Example:
        >>> model.load_state_dict(merge([first.state_dict(), last.state_dict()], like=model))
    """
    merged: dict[str, Tensor] = {}
    for number, state in enumerate(states):
        if twice := merged.keys() & state.keys():
            raise ValueError(f"{_some(twice)} come twice, the second time in part {number}; merge each part once")
        merged |= state
    expected = like.state_dict().keys()
    if missing := expected - merged.keys():
        raise ValueError(f"no part has {_some(missing)}; merge all parts of the {type(like).__name__}")
    if foreign := merged.keys() - expected:
        raise ValueError(f"{type(like).__name__} has no {_some(foreign)}; these parts belong to another model")
    return {key: merged[key] for key in expected}


def _some(keys: set[str]) -> str:
    names = sorted(keys)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
