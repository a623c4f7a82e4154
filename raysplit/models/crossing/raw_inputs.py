"""Values of the inputs that cross a cut although no weight has changed them.

A view, a cast, a slice, a constant times the input or the input itself, also as a piece of a longer tensor, is as good
as the sample. Which values are of this kind is measured: the model runs on several inputs with several weights, and an
element is raw where it changes with the inputs and stays the same whatever the weights are. Weights that only shift or
scale single values, those of norms among them, hide nothing and stay as they are.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from raysplit.data.inputs import UNNAMED, Input, Values, example_batch, feed, map_values
from raysplit.models.cutting.cut_names import called_name
from raysplit.models.cutting.graph_state import is_weight
from raysplit.models.cutting.part_graph import TRACE_DEVICE
from raysplit.models.cutting.tracing import arguments, unchanged
from raysplit.models.traced_model import TracedModel
from raysplit.seeding import keyed_draws, torch_generator

NUM_WEIGHTS = 3  # by chance alone, a rounded or clipped value is rarely the same for three draws of the weights
SCALING_MODULES = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.PReLU,
)
_ARITHMETIC = frozenset(
    {"add", "sub", "rsub", "mul", "div", "true_divide", "multiply", "divide", "subtract", "truediv"}
)
_SCALING_FUNCTIONS = ("layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm", "prelu")


def sent_inputs(traced: TracedModel, inputs: Mapping[str, Input], dtype: torch.dtype) -> list[tuple[str, ...]]:
    """For each position of a graph, from 0 on, name the values that cross it and hold raw private inputs.

    Args:
        traced: the traced model.
        inputs: the records of its inputs by name.
        dtype: dtype of floating inputs.
    """
    placeholders = traced.graph.find_nodes(op="placeholder")
    names = {node: str(node.target) if str(node.target) in inputs else UNNAMED for node in placeholders}
    private = [node for node, name in names.items() if inputs[name].role == "private"]
    raw = raw_values(traced.root, traced.graph, example_pair(inputs, dtype), private)
    names |= {node: traced.names.names[traced.crossings.position(node) - 1] for node in raw if node not in names}
    crossings = traced.crossings

    def sent(position: int) -> tuple[str, ...]:
        if position and traced.objection(position):
            return ()
        return tuple(names[node] for node in crossings.tensors(position) if node in raw)

    return [sent(position) for position in range(crossings.end + 1)]


def example_pair(inputs: Mapping[str, Input], dtype: torch.dtype) -> tuple[Values, Values]:
    """Make two batches of a row that differ in every number of a private input: integers are 0 and 1.

    Side inputs are the same in both, so that a module which passes them on beside what it computes sends nothing raw.
    """
    first, second = (
        example_batch(inputs, 1, dtype=dtype, generator=torch_generator(0, "raw inputs", "example", number))
        for number in range(2)
    )
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        return first, map_values(_other, second)
    changed = {name: _other(value) for name, value in second.items()}
    return first, {name: first[name] if inputs[name].role == "side" else value for name, value in changed.items()}


def raw_values(
    root: nn.Module, graph: fx.Graph, examples: Sequence[Values], private: Sequence[fx.Node]
) -> set[fx.Node]:
    """Return the nodes of a graph whose values hold private inputs that no weight has changed.

    Args:
        root: module with the state of the graph.
        graph: the graph.
        examples: two batches of inputs that differ in every private input.
        private: the nodes of the private inputs.
    """
    reached = set(private)
    for node in graph.nodes:
        if not reached.isdisjoint(node.all_input_nodes) and node.op != "output" and not _hides(root, node):
            reached.add(node)
    computed = [node for node in graph.nodes if node in reached and node.op != "placeholder"]
    if not computed:
        return reached
    with unchanged(root):
        root.eval()
        modules = _with_other_weights(root, _scaling_parameters(root, graph))
        try:
            seen = [[_values(module, graph, arguments(graph, x), computed) for x in examples] for module in modules]
        except (IndexError, RuntimeError):  # the model takes no such numbers, such as a token outside its vocabulary
            return reached
    raw = {node for node in computed if _same_for_all_weights([[run.get(node) for run in runs] for runs in seen])}
    return raw.union(private)


def passes_inputs_on(part: nn.Module, examples: Sequence[Values]) -> bool:
    """Whether the output of a part, a tensor, holds inputs that no weight has changed; see `raw_values`."""

    def output(module: nn.Module, example: Values) -> Tensor | None:
        with keyed_draws(0), torch.no_grad():
            value = feed(module, example)
        return value if isinstance(value, Tensor) else None

    with unchanged(part):
        part.eval()
        modules = _with_other_weights(part, _of_scaling_modules(part))
        return _same_for_all_weights([[output(module, example) for example in examples] for module in modules])


def _other(value: Tensor) -> Tensor:
    if value.dtype == torch.bool:
        return torch.zeros_like(value)
    return value if value.is_floating_point() else torch.ones_like(value)


def _hides(root: nn.Module, node: fx.Node) -> bool:
    """Whether a node mixes what it receives with weights of its own."""
    if node.op == "call_module":
        module = root.get_submodule(str(node.target))
        own = type(module).__module__.startswith("torch.nn.") and any(True for _ in module.parameters(recurse=False))
        return isinstance(module, nn.RNNBase) or (own and not isinstance(module, SCALING_MODULES))
    weights = [source for source in node.all_input_nodes if is_weight(root, source)]
    return bool(weights) and not _is_arithmetic(node)


def _is_arithmetic(node: fx.Node) -> bool:
    name = called_name(node)
    return name.strip("_") in _ARITHMETIC or node.target is operator.truediv or name.endswith(_SCALING_FUNCTIONS)


def _scaling_parameters(root: nn.Module, graph: fx.Graph) -> set[int]:
    """Return the ids of the parameters that only shift or scale single values."""
    found = _of_scaling_modules(root)
    for node in graph.find_nodes(op="get_attr"):
        if is_weight(root, node) and node.users and all(_is_arithmetic(user) for user in node.users):
            owner, _, name = str(node.target).rpartition(".")
            found.add(id(getattr(root.get_submodule(owner), name)))
    return found


def _of_scaling_modules(root: nn.Module) -> set[int]:
    scaling = [module for module in root.modules() if isinstance(module, SCALING_MODULES)]
    return {id(parameter) for module in scaling for parameter in module.parameters()}


def _with_other_weights(root: nn.Module, kept: set[int]) -> list[nn.Module]:
    """Return the module and copies of it in which all weights but the `kept` ones have noise added to them."""
    modules = [root]
    for number in range(1, NUM_WEIGHTS):
        generator = torch_generator(0, "raw inputs", number)
        shared: dict[int, Any] = {id(buffer): buffer for buffer in root.buffers()}
        for parameter in root.parameters():
            value = parameter.detach()
            if id(parameter) not in kept and value.is_floating_point():
                noise = torch.randn(value.shape, generator=generator).to(value)
                value = value + noise * float(value.std(correction=0).clamp(min=0.05))
            shared[id(parameter)] = nn.Parameter(value, requires_grad=False)
        modules.append(copy.deepcopy(root, memo=shared))
    return modules


def on_main_device(arguments: Any) -> Any:
    """Return the arguments of a node with the main device in the place of the one on which a model was traced."""
    return fx.node.map_aggregate(
        arguments, lambda v: torch.device("cpu") if isinstance(v, torch.device) and v == TRACE_DEVICE else v
    )


class _Kept(fx.Interpreter):
    """An interpreter that keeps the tensors of some nodes."""

    def __init__(self, root: nn.Module, graph: fx.Graph, wanted: Collection[fx.Node]) -> None:
        super().__init__(root, graph=graph)
        self.wanted = set(wanted)
        self.seen: dict[fx.Node, Tensor] = {}

    def fetch_args_kwargs_from_env(self, n: fx.Node) -> Any:
        """Put the main device in the place of the one on which the model was traced."""
        return on_main_device(super().fetch_args_kwargs_from_env(n))

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.wanted and isinstance(value, Tensor):
            self.seen[n] = value
        return value


def _values(
    root: nn.Module, graph: fx.Graph, example: tuple[Tensor, ...], wanted: Collection[fx.Node]
) -> Mapping[fx.Node, Tensor]:
    interpreter: Any = _Kept(root, graph, wanted)
    with keyed_draws(0), torch.no_grad():
        interpreter.run(*example)
    found: Mapping[fx.Node, Tensor] = interpreter.seen
    return found


def _same_for_all_weights(values: Sequence[Sequence[Tensor | None]]) -> bool:
    """Whether an element is the same in every row (weights) and differs between the two columns (inputs)."""
    first, second = values[0]
    if first is None or second is None or first.shape != second.shape:
        return False
    raw = first != second
    for a, b in values[1:]:
        if a is None or b is None or a.shape != first.shape or b.shape != first.shape:
            return False
        raw = raw & (a == first) & (b == second)
    return bool(raw.any())
