"""Tracing of a model to a graph (torch.fx) that never writes in place and holds for training and evaluation.

A trace follows one run of ``forward``, which fixes everything that depends on ``self.training``. The model is therefore
traced in both modes and the two graphs are compared: a dropout function that differs becomes a module, and any other
difference is an error. Whether the graph computes what the model does is checked in `same_model`.
"""

from __future__ import annotations

import copy
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn

from raysplit.data.inputs import Values
from raysplit.models.cutting import rewrite
from raysplit.models.cutting.dropout import SeededDropout, SteadyDropout, seed_dropouts

ModuleType = TypeVar("ModuleType", bound=type[nn.Module])

LEAF_MARK = "_raysplit_leaf"
WAY_OUT = "decorate its class with raysplit.leaf to keep it whole, or write the model as an nn.Sequential"
LEAVE_WHOLE = (
    "move that code into a module of its own and decorate its class with raysplit.leaf, or take a method that does not "
    "cut the model, such as fedavg"
)


def leaf(module_class: ModuleType) -> ModuleType:
    """Mark a module class as a leaf: its modules are single nodes of the graph, and no cut lies inside them.

    Use it as a class decorator where torch.fx cannot trace the ``forward`` of a module.

    Args:
        module_class: a subclass of ``nn.Module``.

    Returns:
        The same class.

    Example:
        >>> @leaf
        ... class Router(nn.Module):
        ...     def forward(self, x):
        ...         return x if x.sum() > 0 else -x
    """
    setattr(module_class, LEAF_MARK, True)
    return module_class


def leaves_of(model: nn.Module, graph: fx.Graph) -> list[tuple[str, fx.Node, fx.Node]]:
    """Return the modules of a model that are marked as leaves, with the first and the last node that each has made."""
    marked = [path for path, module in model.named_modules() if path and getattr(type(module), LEAF_MARK, False)]
    made: dict[str, list[fx.Node]] = {path: [] for path in marked}
    for node in graph.nodes if marked else ():
        for path, _ in node.meta.get("nn_module_stack", {}).values():
            if path in made:
                made[path].append(node)
    return [(path, nodes[0], nodes[-1]) for path, nodes in made.items() if nodes]


@dataclass(frozen=True, kw_only=True)
class TracedGraph:
    """A graph and the module with its state.

    Attributes:
        root: a copy of the model that shares its parameters and buffers.
        graph: the graph.
        unit_ends: the last node of each child of an ``nn.Sequential``; empty for other models.
    """

    root: nn.Module
    graph: fx.Graph
    unit_ends: tuple[tuple[str, fx.Node], ...]


class CannotCut(ValueError):
    """Exception for a model that cannot be cut, though it may be trained whole; the text has the reason and way out."""


class _Untraceable(Exception):
    """A failure of tracing inside the module `path`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path


class _Tracer(fx.Tracer):
    """A tracer that records the modules being called and the last node of each call in the outermost ``forward``."""

    proxy_buffer_attributes = True

    def __init__(self, leaves: frozenset[str], inputs: Sequence[str] | None) -> None:
        functions, modules = _not_traceable()
        super().__init__(autowrap_functions=functions)
        self.leaves = leaves
        self.inputs = inputs
        self.not_traceable = modules
        self.open: list[str] = []
        self.call_ends: list[fx.Node] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        marked = isinstance(m, (SeededDropout, *self.not_traceable)) or hasattr(type(m), LEAF_MARK)
        return marked or module_qualified_name in self.leaves or super().is_leaf_module(m, module_qualified_name)

    def create_args_for_root(self, root_fn: Any, is_module: bool, concrete_args: Any = None) -> tuple[Any, list[Any]]:
        """Make a placeholder for each input; the parameters of ``forward`` beside them get their defaults."""
        if self.inputs is None:
            return super().create_args_for_root(root_fn, is_module, concrete_args)
        names = self.inputs

        def call(root: nn.Module, *inputs: Any) -> Any:
            return root_fn(root, **dict(zip(names, inputs, strict=True)))

        return call, [self.root, *(self.create_proxy("placeholder", name, (), {}) for name in names)]

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        self.open.append(self.path_of_module(m))
        result = super().call_module(m, forward, args, kwargs)
        self.open.pop()
        if not self.open:
            self.call_ends.append(next(iter(reversed(self.graph.nodes))))
        return result


def trace_graph(model: nn.Module, example: Values) -> TracedGraph:
    """Trace a model; children of an ``nn.Sequential`` that cannot be traced become single nodes.

    `example` is a tensor for a model of one input, or tensors by the names of the parameters of ``forward``. Raises
    ValueError, with the line of the model's source, for a model that cannot be traced.
    """
    is_chain = type(model).forward is nn.Sequential.forward
    leaves: frozenset[str] = frozenset()
    inputs = taken_inputs(model, example)
    with unchanged(model):
        while True:
            try:
                traced = _trace_both_modes(model, leaves, inputs, is_chain)
                _check_inputs(type(model).__name__, traced.graph, example)
                break
            except _Untraceable as failure:
                if hasattr(type(model), LEAF_MARK):
                    raise CannotCut(
                        f"{type(model).__name__} is a leaf itself, so there is no place to cut it; {LEAVE_WHOLE}"
                    ) from failure
                child = failure.path.split(".")[0]
                if not is_chain or not child or child in leaves:
                    where = f"module {failure.path!r}" if failure.path else f"model {type(model).__name__}"
                    way_out = WAY_OUT if failure.path else LEAVE_WHOLE
                    raise CannotCut(f"cannot trace {where}: {failure}; {way_out}") from failure
                leaves |= {child}
    return traced


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Restore the modes and buffers of the model and torch's global random stream at the end of the context."""
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with torch.random.fork_rng(devices=[]):
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            for buffer, before in buffers:
                buffer.detach().copy_(before)


def taken_inputs(model: nn.Module, example: Values) -> list[str] | None:
    """Return the parameters of ``forward`` that get an input, in the order of its signature.

    These are the ones named in `example`, or else the first one, and those without a default. None stands for a
    signature that takes inputs in another way, such as ``*inputs``.
    """
    parameters = list(inspect.signature(type(model).forward).parameters.values())[1:]
    if any(p.kind in (p.VAR_POSITIONAL, p.POSITIONAL_ONLY) for p in parameters) or not parameters:
        return None
    named = {parameters[0].name} if isinstance(example, Tensor) else set(example)
    parameters = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
    return [p.name for p in parameters if p.name in named or p.default is p.empty]


def _not_traceable() -> tuple[tuple[Callable[..., Any], ...], tuple[type[nn.Module], ...]]:
    """Return the functions and module classes that timm, where it is in use, says not to trace into."""
    layers: Any = sys.modules.get("timm.layers")
    if layers is None or not hasattr(layers, "get_notrace_functions"):
        return (), ()
    return tuple(layers.get_notrace_functions()), tuple(layers.get_notrace_modules())


def _trace_both_modes(
    model: nn.Module, leaves: frozenset[str], inputs: Sequence[str] | None, is_chain: bool
) -> TracedGraph:
    root, tracer, graph = _trace_once(model, leaves, inputs, training=True)
    _, _, eval_graph = _trace_once(model, leaves, inputs, training=False)
    for module, original in zip(root.modules(), model.modules(), strict=True):
        module.training = original.training
    dropouts = _dropout_calls(graph, eval_graph)
    rewrite.write_out_of_place(root, graph, rewrite.in_place_modules(model))
    for dropout, kind in dropouts:
        rewrite.use_dropout_module(root, dropout, kind)
    rewrite.separate_dropout_calls(root, graph)
    children = list(model._modules) if is_chain else []
    return TracedGraph(root=root, graph=graph, unit_ends=tuple(zip(children, tracer.call_ends, strict=False)))


def _check_inputs(model: str, graph: fx.Graph, example: Values) -> None:
    """Raise ValueError unless ``forward`` takes exactly these inputs and uses all of them."""
    placeholders = graph.find_nodes(op="placeholder")
    names = [str(node.target) for node in placeholders]
    if isinstance(example, Tensor):
        if len(names) != 1:
            raise ValueError(
                f"the forward of {model} takes ({', '.join(names)}), but a model of one unnamed input must take one "
                f"tensor"
            )
    elif set(names) != set(example):
        found = f"the forward of {model} takes ({', '.join(names)}) and the data have the inputs ({', '.join(example)})"
        raise ValueError(f"{found}, which it gets by name")
    if unused := [str(node.target) for node in placeholders if not node.users]:
        raise ValueError(f"the forward of {model} never uses the input {unused[0]!r}")


def arguments(graph: fx.Graph, example: Values) -> tuple[Tensor, ...]:
    """Return the tensors of a batch in the order in which the graph takes its inputs."""
    if isinstance(example, Tensor):
        return (example,)
    return tuple(example[str(node.target)] for node in graph.find_nodes(op="placeholder"))


def _trace_once(
    model: nn.Module, leaves: frozenset[str], inputs: Sequence[str] | None, *, training: bool
) -> tuple[nn.Module, _Tracer, fx.Graph]:
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    root = copy.deepcopy(model, memo=dict(shared))
    root.train(training)
    seed_dropouts(root)
    tracer = _Tracer(leaves, inputs)
    try:
        graph = tracer.trace(root)
    except Exception as error:  # user code may raise anything
        raise _Untraceable(tracer.open[-1] if tracer.open else "", f"{error}{failing_line(error)}") from error
    _constants_are_no_state(root, graph)
    return root, tracer, graph


def failing_line(error: Exception) -> str:
    """Return the last line of the user's code in the traceback of this error."""
    ours = (os.path.dirname(torch.__file__), os.path.dirname(os.path.dirname(__file__)))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    return f' at {frames[-1].filename}:{frames[-1].lineno} "{frames[-1].line}"' if frames else ""


def _constants_are_no_state(root: nn.Module, graph: fx.Graph) -> None:
    """Keep plain tensor attributes out of the state dicts of parts, since that of the model lacks them."""
    for node in graph.find_nodes(op="get_attr"):
        assert isinstance(node.target, str)
        owner_path, _, name = node.target.rpartition(".")
        owner = root.get_submodule(owner_path)
        if name in owner.__dict__:
            owner.register_buffer(name, owner.__dict__.pop(name), persistent=False)


def _dropout_calls(graph: fx.Graph, eval_graph: fx.Graph) -> list[tuple[fx.Node, type[SeededDropout]]]:
    """Return the calls of dropout functions, each with the kind of module that replaces it.

    Raises _Untraceable where the two graphs differ in anything else.
    """
    found: list[tuple[fx.Node, type[SeededDropout]]] = []
    differs = "it computes something else in eval() than in train(); leave that to modules such as nn.Dropout"
    for node, in_eval in zip(graph.nodes, eval_graph.nodes, strict=False):
        path = next(iter(node.meta.get("nn_module_stack", {"": ("", None)}).values()))[0]
        if (node.op, node.target) != (in_eval.op, in_eval.target):
            raise _Untraceable(path, f"{differs}; first difference at node {rewrite.describe(node)}")
        if rewrite.is_dropout_function(node):
            modes = rewrite.bound_arguments(node)["training"], rewrite.bound_arguments(in_eval)["training"]
            if modes[0]:
                found.append((node, SteadyDropout if modes[1] else SeededDropout))
        elif _names(node) != _names(in_eval):
            raise _Untraceable(path, f"{differs}; the arguments of node {rewrite.describe(node)} differ")
    if len(graph.nodes) != len(eval_graph.nodes):
        raise _Untraceable("", differs)
    return found


def _names(node: fx.Node) -> Any:
    return fx.map_arg((node.args, node.kwargs), lambda argument: argument.name)
