"""The graphs of a model for training and for evaluation, by `torch.export`.

The model is exported on the meta device, where tensors have shapes and no values: this takes neither memory nor time
for the weights, and gives every party the same graph. A model that asks for its device, or makes a constant there, may
do something else on it, and is exported on the processor instead, without values as well. Both graphs use the
parameters and buffers of the model itself, under their own names.
"""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from raysplit.data.inputs import Values
from raysplit.models.cutting.cut_tensors import GraphFacts
from raysplit.models.cutting.dropout import SeededDropout, seed_dropouts
from raysplit.models.cutting.part_graph import TRACE_DEVICE
from raysplit.models.cutting.tracing import CannotCut, failing_line, taken_inputs
from raysplit.models.exporting.clean import cleaned
from raysplit.models.exporting.facts import fixed_sizes, seen_in_export
from raysplit.models.exporting.keyed import DropoutMark
from raysplit.models.exporting.random_draws import key_draws
from raysplit.models.exporting.writes import write_to_new_tensors
from raysplit.models.frozen import train_mode

NUM_ROWS = 3
LENGTHS = (16, 17, 19, 23)
"""Lengths of samples that are tried in turn until one is not a size of the model's own."""

Device = Literal["meta", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The graphs of a model.

    Attributes:
        root: a copy of the model that shares its parameters and buffers, with the state of the graphs.
        training: graph in training mode and what is known of its nodes.
        evaluation: the same in evaluation mode.
    """

    root: nn.Module
    training: tuple[fx.Graph, GraphFacts]
    evaluation: tuple[fx.Graph, GraphFacts]


def export_graphs(model: nn.Module, example: Values, longer: Values | None, device: Device = "meta") -> Exported:
    """Export a model in both modes.

    Args:
        model: the model, which is not changed.
        example: a batch of its inputs.
        longer: a batch with longer samples where lengths differ, which tells the dimensions that do.
        device: the device on which the model is followed.

    Raises:
        CannotCut: for a model that cannot be exported, or whose graph holds for one batch size alone.
    """
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    root = copy.deepcopy(model, memo=dict(shared))
    seed_dropouts(root)
    inputs = _inputs(model, example, longer, device)
    graphs = []
    for training in (True, False):
        program = _exported(_shape_model(root, training, device), inputs, _dynamic(inputs, example, longer), model)
        graph = cleaned(program, root, "training" if training else "evaluation")
        if device == "cpu":
            _name_trace_device(graph)
        writes = write_to_new_tensors(graph, root)
        repeatable = key_draws(graph, root, "random" if training else "random_in_evaluation")
        if fixed_sizes(graph):
            raise CannotCut(
                f"the graph of {type(model).__name__} holds for {NUM_ROWS} samples alone: its forward depends on the "
                f"number of samples; take it from the shape of the input, or write the model as an nn.Sequential"
            )
        graphs.append(
            (
                graph,
                GraphFacts(
                    seen=seen_in_export(graph),
                    repeatable=repeatable,
                    only_new=True,
                    written=writes.state,
                    writes=writes.before,
                    closed=writes.closed,
                ),
            )
        )
    return Exported(root=root, training=graphs[0], evaluation=graphs[1])


def _inputs(model: nn.Module, example: Values, longer: Values | None, device: Device) -> dict[str, Tensor]:
    """Return an example on a device by the names of the parameters of ``forward``, in their order."""
    names = taken_inputs(model, example)
    named, further = _by_name(example, names), {} if longer is None else _by_name(longer, names)
    if names is None or set(names) != set(named):
        takes = ", ".join(names or ("*inputs",))
        raise CannotCut(
            f"the forward of {type(model).__name__} needs ({takes}) and the data have the inputs ({', '.join(named)}), "
            f"which it gets by name"
        )
    own = {size for tensor in [*model.parameters(), *model.buffers()] for size in tensor.shape}
    length = next((size for size in LENGTHS if size not in own), LENGTHS[-1])
    made = {}
    for name in names:
        value, other = named[name], further.get(name, named[name])
        sizes = [size if size == more else length for size, more in zip(value.shape[1:], other.shape[1:], strict=True)]
        made[name] = torch.empty(NUM_ROWS, *sizes, dtype=value.dtype, device=device)
    return made


def _by_name(batch: Values, names: Sequence[str] | None) -> Mapping[str, Tensor]:
    return {names[0] if names else "": batch} if isinstance(batch, Tensor) else batch


def _dynamic(inputs: Mapping[str, Tensor], example: Values, longer: Values | None) -> dict[str, dict[int, Any]]:
    """Say which dimensions of each input differ from batch to batch."""
    auto = torch.export.Dim.AUTO
    found = {}
    for name, value in inputs.items():
        before = example if isinstance(example, Tensor) else example[name]
        after = before if longer is None else longer if isinstance(longer, Tensor) else longer[name]
        ragged = [d for d in range(1, value.ndim) if before.shape[d] != after.shape[d]]
        found[name] = {d: auto if d == 0 or d in ragged else torch.export.Dim.STATIC for d in range(value.ndim)}
    return found


def _shape_model(root: nn.Module, training: bool, device: Device) -> nn.Module:
    """Copy a model to a device, without its values, with marks in the place of dropout modules."""
    shapes: dict[int, Any] = {}
    for parameter in root.parameters():
        empty = torch.empty_like(parameter, device=device)
        shapes[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    shapes |= {id(buffer): torch.empty_like(buffer, device=device) for buffer in root.buffers()}
    made = copy.deepcopy(root, memo=shapes)
    marks: dict[nn.Module, DropoutMark] = {}
    for path, module in list(made.named_modules(remove_duplicate=False)):
        if isinstance(module, SeededDropout):
            made.set_submodule(path, marks.setdefault(module, DropoutMark(module)))
    if training:
        train_mode(made)
        return made
    return made.eval()


def _name_trace_device(graph: fx.Graph) -> None:
    """Put the device of traces, which parts replace by their own, in the place of the processor."""
    for node in graph.nodes:
        node.args, node.kwargs = fx.node.map_aggregate(
            (node.args, node.kwargs),
            lambda value: TRACE_DEVICE if isinstance(value, torch.device) and value.type == "cpu" else value,
        )


def _exported(
    shapes: nn.Module, inputs: dict[str, Tensor], dynamic: Mapping[str, Any], model: nn.Module
) -> torch.export.ExportedProgram:
    with _quiet():
        try:
            with redirect_stderr(StringIO()):  # where torch prints the whole graph of a trace that ends early
                return torch.export.export(shapes, (), inputs, dynamic_shapes=dict(dynamic), strict=False)
        except Exception as error:  # the model's code may raise anything
            reason = str(error).strip().split("\n")[0]
            raise CannotCut(
                f"torch.export cannot follow the forward of {type(model).__name__}: {type(error).__name__}: "
                f"{reason}{failing_line(error)}"
            ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch logs and warns of while a model is exported; what matters comes as an error."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(level)
