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

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import fx, nn

from raysplit.data.inputs import Values, feed
from raysplit.models.cutting.cut_names import name_positions
from raysplit.models.cutting.cut_tensors import Crossings, Ends, GraphFacts
from raysplit.models.cutting.merging import merge, other_names, some
from raysplit.models.cutting.numbers import seen_in_runs
from raysplit.models.cutting.part_graph import CutGraph
from raysplit.models.cutting.same_model import Compute, check_same_model, check_same_output, interpreted
from raysplit.models.cutting.tracing import LEAVE_WHOLE, CannotCut, arguments, leaf, leaves_of, trace_graph, unchanged
from raysplit.models.traced_model import CutPoint, TracedModel

FrontEnd = Literal["auto", "fx", "export", "export_cpu", "chain"]
Units = Literal["children", "blocks"]
__all__ = ["CutPoint", "TracedModel", "leaf", "merge", "trace"]


def trace(
    model: nn.Module,
    example: Values,
    *,
    kept_back: Collection[str] = frozenset(),
    side: Collection[str] = frozenset(),
    longer: Values | None = None,
    front_end: FrontEnd = "auto",
    units: Units = "children",
) -> TracedModel:
    """Trace a model and find the places where it can be cut.

    Args:
        model: the model; it runs on the example in evaluation mode and is not changed.
        example: a batch [B, ...] of inputs, or batches by the names of the parameters of ``forward``; one sample is
            enough.
        kept_back: names of inputs that must stay in the first part; the model is not cut where one would cross.
        side: names of inputs that may be sent to any part, such as masks.
        longer: a batch with longer samples, for data whose samples differ in length.
        front_end: ``fx`` traces with torch.fx, ``export`` with torch.export; ``auto`` tries them in this order;
            ``export_cpu`` does as ``export`` for a model that does something else on a device without values;
            ``chain`` takes the units that the model says itself.
        units: what torch.fx takes for the units of a model that is no ``nn.Sequential``: ``children`` are the steps
            between two places, ``blocks`` the blocks of its list, as ``export`` takes them.

    Returns:
        The traced model, whose method ``cut`` makes the parts.

    Raises:
        ValueError: for a model that cannot be traced, whose graph has other outputs or gradients than the model as
            written, or with parameters or buffers that it never uses.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> first, last = trace(model, torch.zeros(1, 4)).cut([2])
        >>> last(first(torch.zeros(3, 4))).shape
        torch.Size([3, 2])
    """
    reasons = []
    for name in front_ends(front_end):
        try:
            found = traced_model(
                model, example, kept_back=kept_back, side=side, longer=longer, front_end=name, units=units
            )
            check_traced(model, found, example, longer)
        except CannotCut as reason:
            reasons.append((name, reason))
        else:
            return found
    raise reasons[0][1] if len(reasons) == 1 else no_front_end(type(model).__name__, reasons) from reasons[0][1]


def front_ends(front_end: FrontEnd) -> tuple[FrontEnd, ...]:
    """Return the front ends to try, in this order."""
    return ("fx", "export") if front_end == "auto" else (front_end,)


def no_front_end(model: str, reasons: Sequence[tuple[str, CannotCut]]) -> CannotCut:
    """Return the exception for a model that no front end can trace, with the reason of each."""
    listed = "".join(f"\n  {name}: {reason}" for name, reason in reasons)
    return CannotCut(
        f"the model {model} cannot be cut, as no front end can trace it:{listed}\n  "
        f"a model that says its own units needs no trace: model.front_end: chain"
    )


def check_traced(model: nn.Module, traced: TracedModel, example: Values, longer: Values | None) -> None:
    """Raise `CannotCut` unless a traced model computes and learns what the model as written does."""
    if traced.evaluation is None:
        check_same_model(model, traced.root, _told(model, partial(interpreted, traced.graph)), example, longer)
    else:
        (whole,) = traced.cut([])
        check_same_model(model, whole, _told(model, feed), example, longer)


def _told(model: nn.Module, compute: Compute) -> Compute:
    """Return the computation of a graph with what fails in it told as the reason why the model cannot be cut."""

    def told(module: nn.Module, batch: Values) -> Any:
        try:
            return compute(module, batch)
        except Exception as error:  # of an operator, about what the trace has taken for a constant
            raise CannotCut(
                f"the graph of {type(model).__name__} fails where the model does not, as for samples of another length "
                f"than that of its trace ({type(error).__name__}: {str(error).partition(chr(10))[0]}); give samples "
                f"of one length, as an array [N, length], or {LEAVE_WHOLE}"
            ) from error

    return told


def traced_model(
    model: nn.Module,
    example: Values,
    *,
    kept_back: Collection[str] = frozenset(),
    side: Collection[str] = frozenset(),
    longer: Values | None = None,
    front_end: str = "fx",
    units: Units = "children",
    ends: Ends = "apart",
) -> TracedModel:
    """Trace a model as `trace` does with one front end, without the comparison of gradients.

    Where the `ends` of the model are one party's ``together``, tied weights may be in both.
    """
    rules = {"kept_back": kept_back, "side": side, "ends": ends}
    if front_end == "fx":
        found = _traced_by_fx(model, example, longer, units, rules)
    elif front_end == "chain":
        found = _traced_by_chain(model, example, longer, rules)
    else:
        found = _traced_by_export(
            model, example, longer, rules, "export_cpu" if front_end == "export_cpu" else "export"
        )
    (whole,) = found.cut([])
    if idle := model.state_dict().keys() - whole.state_dict().keys() - other_names(model).keys():
        raise CannotCut(f"{some(idle)} of {type(model).__name__} are never used in its forward; remove them")
    return found


def _traced_by_fx(
    model: nn.Module, example: Values, longer: Values | None, units: Units, rules: Mapping[str, Any]
) -> TracedModel:
    traced = trace_graph(model, example)
    root, graph = traced.root, traced.graph
    check_same_output(model, root, partial(interpreted, graph), example)
    crossings = _crossings(root, graph, example, longer, rules)
    found = CutGraph(graph=graph, crossings=crossings, names=name_positions(crossings.nodes))
    if units == "blocks":
        from raysplit.models.exporting.blocks import block_ends

        return _with_places(root, found, None, block_ends(model, found))
    return _with_places(root, found, None, [(name, crossings.position(node)) for name, node in traced.unit_ends])


def _traced_by_chain(model: nn.Module, example: Values, longer: Values | None, rules: Mapping[str, Any]) -> TracedModel:
    from raysplit.models.chains.chain import chain_graph

    chain = chain_graph(model, example)
    check_same_output(model, chain.root, partial(interpreted, chain.graph), example)
    crossings = _crossings(chain.root, chain.graph, example, longer, rules)
    found = CutGraph(
        graph=chain.graph, crossings=crossings, names=name_positions(crossings.nodes, by_module=True), front_end="chain"
    )
    return _with_places(chain.root, found, None, [(name, crossings.position(end)) for name, end in chain.unit_ends])


def _crossings(
    root: nn.Module, graph: fx.Graph, example: Values, longer: Values | None, rules: Mapping[str, Any]
) -> Crossings:
    """Run a graph on batches of other sizes, and return what crosses its positions."""
    with unchanged(root):
        root.eval()
        small = arguments(graph, example)
        batches = [small, tuple(torch.cat([value, value[:1]]) for value in small)]
        if longer is not None:
            batches.append(arguments(graph, longer))
        return Crossings(root, graph, GraphFacts(seen=seen_in_runs(root, graph, batches)), **rules)


def _traced_by_export(
    model: nn.Module,
    example: Values,
    longer: Values | None,
    rules: Mapping[str, Any],
    front_end: Literal["export", "export_cpu"],
) -> TracedModel:
    from raysplit.models.exporting.blocks import block_ends
    from raysplit.models.exporting.graphs import export_graphs

    exported = export_graphs(model, example, longer, "cpu" if front_end == "export_cpu" else "meta")
    both = []
    for graph, facts in (exported.training, exported.evaluation):
        whole = replace(facts, leaves=leaves_of(model, graph))
        crossings = Crossings(exported.root, graph, whole, **rules)
        names = name_positions(crossings.nodes, by_module=True)
        both.append(CutGraph(graph=graph, crossings=crossings, names=names, front_end=front_end))
    return _with_places(exported.root, both[0], both[1], block_ends(model, both[0]))


def _with_places(
    root: nn.Module, training: CutGraph, evaluation: CutGraph | None, units: Sequence[tuple[str, int]]
) -> TracedModel:
    """Number the places and the units; without given ones, the units are the steps between two places."""
    found = TracedModel(root=root, training=training, evaluation=evaluation, cut_points=(), units=(), unit_ends=())
    crossings, names = training.crossings, training.names
    legal = [position for position in range(1, crossings.end) if found.objection(position) is None]
    unit_ends = list(dict.fromkeys([0, *legal, crossings.end]))
    unit_names = [names.names[position - 1] for position in unit_ends[1:]]
    if units:
        unit_ends, unit_names = [0, *(position for _, position in units)], [name for name, _ in units]
    num_units = {position: number for number, position in enumerate(unit_ends)}
    points = []
    for index, position in enumerate(legal, start=1):
        samples = crossings.samples(position)
        point = CutPoint(
            index=index,
            name=names.names[position - 1],
            shapes=tuple(sample.shape for sample in samples),
            num_bytes_per_sample=sum(sample.num_bytes for sample in samples),
            unit=num_units.get(position),
        )
        points.append(point)
    return replace(found, cut_points=tuple(points), units=tuple(unit_names), unit_ends=tuple(unit_ends))
