"""Places of a model with two graphs: the same place in both, where the same tensors cross."""

from __future__ import annotations

from raysplit.models.cutting.part_graph import CutGraph


def same_position(training: CutGraph, evaluation: CutGraph, position: int) -> int:
    """Return the position in evaluation mode that has the name of one in training mode."""
    if position in (0, training.crossings.end):
        return evaluation.crossings.end if position else 0
    found = evaluation.names.find(training.names.names[position - 1])
    assert found is not None
    return found


def objection_of_both(training: CutGraph, evaluation: CutGraph, position: int) -> str | None:
    """Return why a place that is allowed in training mode is not in evaluation mode, or is another one there."""
    name = training.names.names[position - 1]
    if evaluation.names.find(name) is None:
        return "there is no such place in evaluation mode"
    other = same_position(training, evaluation, position)
    if reason := evaluation.crossings.objection(other):
        return f"in evaluation mode, {reason}"
    if training.crossings.samples(position) != evaluation.crossings.samples(other):
        return "other tensors would cross it in evaluation mode"
    before = [set(graph.crossings.state_before(at)) for graph, at in ((training, position), (evaluation, other))]
    both = {name for graph in (training, evaluation) for name in graph.crossings.state}
    if differing := sorted((before[0] ^ before[1]) & both):
        return f"{differing[0]!r} is in front of it in one mode alone"
    return None
