"""Places of a model in words: what would cross each, what lies before and after it, and why it may not be cut there."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raysplit.models.cutting.cut_tensors import Crossings, Unsendable

if TYPE_CHECKING:
    from torch import fx

    from raysplit.models.crossing.measured_run import MeasuredRun
    from raysplit.models.traced_model import TracedModel

NUM_NEAR = 3


@dataclass(frozen=True, kw_only=True)
class Place:
    """A place of a model.

    Attributes:
        name: module or function after which it lies; empty in front of the model.
        unit: number of whole units before it, or None inside a unit.
        tensors: the tensors that cross, such as ``16x8x8 float32``.
        num_bytes_per_sample: bytes of these tensors for one sample.
        num_bytes_back_per_sample: bytes of the gradients that return for one sample.
        num_bytes_side_per_sample: bytes of the side inputs, such as masks, among the tensors that cross.
        parameters_before, parameters_after: numbers of weights in front of it and behind it.
        trained_before, trained_after: numbers of those that are trained.
        flops_before: share of the operations of a forward pass in front of it, counting matrix products and
            convolutions; None for a model without any.
        sent_inputs: names of the values that hold raw inputs and cross it.
        objection: why the model cannot be cut here; None where it can.
    """

    name: str
    unit: int | None
    tensors: tuple[str, ...]
    num_bytes_per_sample: int
    num_bytes_back_per_sample: int
    num_bytes_side_per_sample: int
    parameters_before: int
    parameters_after: int
    trained_before: int
    trained_after: int
    flops_before: float | None
    sent_inputs: tuple[str, ...]
    objection: str | None


def places_of(traced: TracedModel, sent: Sequence[tuple[str, ...]], run: MeasuredRun) -> list[Place]:
    """List all places of a traced model, from the inputs to the outputs.

    Args:
        traced: the traced model.
        sent: for each position, the values that hold raw inputs and cross it.
        run: what a run of its graph showed.
    """
    crossings, names = traced.crossings, traced.names.names
    sizes = {name: parameter.numel() for name, parameter in traced.root.named_parameters()}
    trained = {name: sizes[name] for name, p in traced.root.named_parameters() if p.requires_grad}
    units = {position: number for number, position in enumerate(traced.unit_ends)}
    found = []
    for position in range(crossings.end + 1):
        objection = traced.objection(position) if position else None
        nodes = [] if objection else _crossing(crossings, position)
        before = crossings.state_before(position)
        num_before, num_trained = (sum(of.get(name, 0) for name in before) for of in (sizes, trained))
        found.append(
            Place(
                name=names[position - 1] if position else "",
                unit=units.get(position),
                tensors=tuple(_described(node, run) for node in nodes),
                num_bytes_per_sample=_num_bytes(nodes, run),
                num_bytes_back_per_sample=_num_bytes([node for node in nodes if node in run.with_gradient], run),
                num_bytes_side_per_sample=_num_bytes([n for n in nodes if n.target in crossings.side], run),
                parameters_before=num_before,
                parameters_after=sum(sizes.values()) - num_before,
                trained_before=num_trained,
                trained_after=sum(trained.values()) - num_trained,
                flops_before=run.share_before(position),
                sent_inputs=sent[position],
                objection=objection,
            )
        )
    return found


def near_names(wanted: str, names: Sequence[str]) -> str:
    """Return ``; did you mean 'a', 'b' or 'c'?`` with the closest names, or an empty text if none is close."""
    close = [repr(name) for name in difflib.get_close_matches(wanted, names, NUM_NEAR, cutoff=0.5)]
    if not close:
        return ""
    *others, last = close
    return f"; did you mean {', '.join(others)} or {last}?" if others else f"; did you mean {last}?"


def _crossing(crossings: Crossings, position: int) -> list[fx.Node]:
    try:
        crossings.samples(position)
    except Unsendable:  # in front of the model, where the inputs need not have a row per sample
        return []
    return crossings.tensors(position)


def _num_bytes(nodes: Sequence[fx.Node], run: MeasuredRun) -> int:
    return sum(run.samples[node].num_bytes for node in nodes)


def _described(node: fx.Node, run: MeasuredRun) -> str:
    sample = run.samples[node]
    return f"{'x'.join(map(str, sample.shape)) or '1'} {str(sample.dtype).removeprefix('torch.')}"


def first_private_cut(traced: TracedModel, sent: Sequence[tuple[str, ...]]) -> int | None:
    """Return the lowest number of units, from 1 on, after which the inputs do not cross; None if there is none.

    Args:
        traced: the traced model.
        sent: for each position, the values that hold raw inputs and cross it.
    """
    last = max(1, len(traced.units) - 1)  # a cut after the last unit would leave nothing for others to train
    for number, position in enumerate(traced.unit_ends[1 : last + 1], start=1):
        if not sent[position] and traced.objection(position) is None:
            return number
    return None
