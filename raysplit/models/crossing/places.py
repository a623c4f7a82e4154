"""Places of a model in words: what would cross each, what lies before and after it, and why it may not be cut there."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raysplit.models.cutting.cut_tensors import Crossings, Sample, Unsendable

if TYPE_CHECKING:
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
        parameters_before, parameters_after: numbers of weights in front of it and behind it.
        sent_inputs: names of the values that hold raw inputs and cross it.
        objection: why the model cannot be cut here; None where it can.
    """

    name: str
    unit: int | None
    tensors: tuple[str, ...]
    num_bytes_per_sample: int
    parameters_before: int
    parameters_after: int
    sent_inputs: tuple[str, ...]
    objection: str | None


def places_of(traced: TracedModel, sent: Sequence[tuple[str, ...]]) -> list[Place]:
    """List all places of a traced model, from the inputs to the outputs.

    Args:
        traced: the traced model.
        sent: for each position, the values that hold raw inputs and cross it.
    """
    root, crossings, names, unit_ends = traced.root, traced.crossings, traced.names.names, traced.unit_ends
    sizes = {name: parameter.numel() for name, parameter in root.named_parameters()}
    total = sum(sizes.values())
    units = {position: number for number, position in enumerate(unit_ends)}
    found = []
    for position in range(crossings.end + 1):
        objection = traced.objection(position) if position else None
        samples = [] if objection else _samples(crossings, position)
        before = sum(sizes.get(name, 0) for name in crossings.state_before(position))
        found.append(
            Place(
                name=names[position - 1] if position else "",
                unit=units.get(position),
                tensors=tuple(map(_described, samples)),
                num_bytes_per_sample=sum(sample.num_bytes for sample in samples),
                parameters_before=before,
                parameters_after=total - before,
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


def _samples(crossings: Crossings, position: int) -> list[Sample]:
    try:
        return crossings.samples(position)
    except Unsendable:  # in front of the model, where the inputs need not have a row per sample
        return []


def _described(sample: Sample) -> str:
    return f"{'x'.join(map(str, sample.shape)) or '1'} {str(sample.dtype).removeprefix('torch.')}"
