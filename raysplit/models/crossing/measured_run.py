"""One run of the graph of a model on an example: shape, gradient and floating-point operations of each value.

A trace knows its shapes for the length of its own example alone, and neither what returns across a cut nor what the
operations cost; a forward pass with gradients, of a row as long as the samples are, shows all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from raysplit.data.inputs import Values
from raysplit.models.crossing.raw_inputs import on_main_device
from raysplit.models.cutting.cut_tensors import Sample
from raysplit.models.cutting.tracing import arguments, unchanged
from raysplit.models.traced_model import TracedModel
from raysplit.seeding import keyed_draws

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, kw_only=True, eq=False)
class MeasuredRun:
    """What a forward pass of one row showed.

    Attributes:
        samples: shape and dtype of one sample of each value that is a tensor.
        with_gradient: the values whose gradient returns.
        flops: operations of matrix products and convolutions in the nodes before each position, from 0 on.
    """

    samples: Mapping[fx.Node, Sample]
    with_gradient: frozenset[fx.Node]
    flops: Sequence[int]

    def share_before(self, position: int) -> float | None:
        """Return the share of the operations in front of a position; None for a model that has none."""
        return self.flops[position] / self.flops[-1] if self.flops[-1] else None


class _Measuring(fx.Interpreter):
    """An interpreter that describes each value and counts the operations of each node."""

    def __init__(self, root: nn.Module, graph: fx.Graph, counter: FlopCounterMode) -> None:
        super().__init__(root, graph=graph)
        self.counter = counter
        self.samples: dict[fx.Node, Sample] = {}
        self.with_gradient: set[fx.Node] = set()
        self.flops: dict[fx.Node, int] = {}

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> Any:
        """Put the main device in the place of the one on which the model was traced."""
        return on_main_device(super().fetch_args_kwargs_from_env(n))

    def run_node(self, n: fx.Node) -> Any:
        before = self.counter.get_total_flops()
        value = super().run_node(n)
        self.flops[n] = self.counter.get_total_flops() - before
        if isinstance(value, Tensor) and value.ndim:
            self.samples[n] = Sample(shape=tuple(value.shape[1:]), dtype=value.dtype)
            if value.requires_grad:
                self.with_gradient.add(n)
        return value


@contextmanager
def _without_onednn() -> Iterator[None]:
    """Switch oneDNN off, as a recurrent layer is one operation there, whose matrix products are not counted."""
    backend: Any = torch.backends.mkldnn
    before = backend.enabled
    backend.enabled = False
    try:
        yield
    finally:
        backend.enabled = before


def measured_run(traced: TracedModel, example: Values) -> MeasuredRun:
    """Run the graph of a traced model on a batch, in evaluation mode with gradients."""
    from torch.utils.flop_counter import FlopCounterMode  # loads Triton, 75 MiB that no place of training needs

    with unchanged(traced.root), keyed_draws(0), torch.enable_grad(), _without_onednn():
        traced.root.eval()
        with FlopCounterMode(display=False) as counter:
            run: Any = _Measuring(traced.root, traced.graph, counter)
            run.run(*arguments(traced.graph, example))
    sums = [0]
    for node in traced.crossings.nodes:
        sums.append(sums[-1] + run.flops[node])
    return MeasuredRun(samples=run.samples, with_gradient=frozenset(run.with_gradient), flops=sums)
