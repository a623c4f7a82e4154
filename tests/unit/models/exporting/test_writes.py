"""Writes in place in an exported graph."""

from __future__ import annotations

import torch
from torch import fx, nn

from raysplit.models.exporting.writes import write_to_new_tensors


def test_a_write_without_a_counterpart_is_to_a_copy_of_its_own() -> None:
    """A constant of DeBERTa is detached in place, which no operator does out of place: tracing ended in a KeyError."""
    aten = torch.ops.aten
    graph = fx.Graph()
    x = graph.placeholder("x")
    made = graph.call_function(aten.clone.default, (x,))
    written = graph.call_function(aten.detach_.default, (made,))
    graph.output(graph.call_function(aten.mul.Tensor, (written, x)))
    found = write_to_new_tensors(graph, nn.Module())
    assert (found.closed, found.before, found.state) == ([], {}, frozenset())
    given = torch.tensor([1.0, -2.0, 3.0])
    assert torch.equal(fx.GraphModule(nn.Module(), graph)(given), given * given)
    assert written.args[0] is not made
