"""The graph of a model that says its own units.

These are the children of an ``nn.Sequential``, or what a class says that has a method ``before(**inputs)`` returning
a tuple, ``blocks``, an ``nn.ModuleList`` whose modules take that tuple as arguments and return one, and a method
``after(*tensors)``; its ``forward`` is their composition, which is checked. Nothing is traced, so that blocks may do
what they like. Cuts lie between units.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from raysplit.data.inputs import Values
from raysplit.models.chains.step import BlockStep, MethodStep, Step
from raysplit.models.cutting.dropout import seed_dropouts
from raysplit.models.cutting.rewrite import SAME_MODULE, in_place_modules, turn_off_in_place
from raysplit.models.cutting.tracing import CannotCut, failing_line, taken_inputs, unchanged

STEPS = "_raysplit_steps"
BLOCKS = "blocks"
WHAT = (
    "a chain is an nn.Sequential, or a class with the methods before(**inputs) and after(*tensors) and with blocks, an "
    "nn.ModuleList between them"
)


@dataclass(frozen=True, kw_only=True)
class Chain:
    """The graph of a chain.

    Attributes:
        root: a copy of the model that shares its parameters and buffers, with the modules of the graph.
        graph: the graph.
        unit_ends: the last node of each unit.
    """

    root: nn.Module
    graph: fx.Graph
    unit_ends: tuple[tuple[str, fx.Node], ...]


def chain_graph(model: nn.Module, example: Values) -> Chain:
    """Return the graph of a model that says its units.

    Args:
        model: the model, which is not changed.
        example: a batch of its inputs.

    Raises:
        CannotCut: for a model that is no chain, or a unit that fails.
    """
    shared = {id(tensor): tensor for tensor in [*model.parameters(), *model.buffers()]}
    root = copy.deepcopy(model, memo=dict(shared))
    turn_off_in_place(root, in_place_modules(root))
    seed_dropouts(root)
    inputs, given = _inputs(model, example)
    with unchanged(root), torch.no_grad():
        root.eval()
        graph, ends = _written(root, _units(root, tuple(inputs)), inputs, given)
    getattr(root, STEPS).train(model.training)
    return Chain(root=root, graph=graph, unit_ends=tuple(ends))


def _inputs(model: nn.Module, example: Values) -> tuple[list[str], tuple[Tensor, ...]]:
    """Return the names of the inputs, in the order of the signature of ``forward``, with their tensors."""
    if type(model).forward is nn.Sequential.forward:
        if not isinstance(example, Tensor):
            raise CannotCut(f"an nn.Sequential takes one input, and the data have {', '.join(example)}")
        return ["input"], (example,)
    names = taken_inputs(model, example) or []
    if isinstance(example, Tensor):
        return names[:1], (example,)
    if set(names) != set(example):
        raise CannotCut(
            f"the forward of {type(model).__name__} takes ({', '.join(names)}) and the data have the inputs "
            f"({', '.join(example)}), which it gets by name"
        )
    return names, tuple(example[name] for name in names)


def _units(root: nn.Module, inputs: tuple[str, ...]) -> list[Step]:
    if type(root).forward is nn.Sequential.forward:
        return [BlockStep(name, child) for name, child in _children(root)]
    blocks = getattr(root, BLOCKS, None)
    has_methods = all(callable(getattr(type(root), name, None)) for name in ("before", "after"))
    if not has_methods or not isinstance(blocks, nn.ModuleList) or not len(blocks):
        raise CannotCut(f"{type(root).__name__} is no chain: {WHAT}")
    middle = [BlockStep(f"{BLOCKS}.{name}", child) for name, child in _children(blocks)]
    return [MethodStep("before", root, inputs), *middle, MethodStep("after", root, ())]


def _children(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, child) for name, child in module._modules.items() if child is not None]


def _written(
    root: nn.Module, steps: Sequence[Step], inputs: Sequence[str], given: tuple[Tensor, ...]
) -> tuple[fx.Graph, list[tuple[str, fx.Node]]]:
    """Write the graph while the units run on an example, which shows how many tensors each of them returns."""
    graph = fx.Graph()
    is_sequential = isinstance(steps[0], BlockStep)
    arguments: tuple[Any, ...] = tuple(graph.placeholder(name) for name in inputs)
    values: tuple[Any, ...] = given
    ends: list[tuple[str, fx.Node]] = []
    for number, step in enumerate(steps):
        value, state = _computed(root, step, values)
        is_last = number == len(steps) - 1
        node = graph.call_module(
            f"{STEPS}.{number}", arguments, {name: graph.get_attr(path) for name, path in state.items()}
        )
        called = (step.path, type(step))
        node.meta |= {"nn_module_stack": {step.path: called}, SAME_MODULE: step.path}
        if is_last or isinstance(value, Tensor):
            arguments, values, end = (node,), (value,), node
        else:
            _check_tuple(root, step, value)
            node.meta[SAME_MODULE] = f"{step.path}.call"
            items = tuple(graph.call_function(operator.getitem, (node, index)) for index in range(len(value)))
            for item in items:
                item.meta["nn_module_stack"] = {step.path: called}
            arguments, values, end = ((items,), (value,), items[-1]) if is_sequential else (items, value, items[-1])
        ends.append((step.path, end))
    graph.output(arguments[0])
    root.add_module(STEPS, nn.ModuleList(steps))
    if not is_sequential:  # the first unit has what lies in front of it, the last what lies behind it
        ends = [*ends[1:-2], (ends[-2][0], ends[-1][1])]
    return graph, ends


def _check_tuple(root: nn.Module, step: Step, value: Any) -> None:
    if not isinstance(value, tuple) or not any(isinstance(entry, Tensor) for entry in value):
        raise CannotCut(
            f"{step.path} of {type(root).__name__} returns a {type(value).__name__}, and a unit returns a tensor or a "
            f"tuple of tensors; {WHAT}"
        )


def _computed(root: nn.Module, step: Step, values: tuple[Any, ...]) -> tuple[Any, dict[str, str]]:
    """Compute a unit; return its value, and the names of the modules and weights that it gets, by argument."""
    try:
        if isinstance(step, BlockStep):
            return root.get_submodule(step.path)(*values), {"block": step.path}
        assert isinstance(step, MethodStep)
        return _method(root, step, values)
    except Exception as error:  # the model's code may raise anything
        first = next(iter(str(error).strip().splitlines()), "")
        raise CannotCut(
            f"{step.path} of {type(root).__name__} fails: {type(error).__name__}: {first}{failing_line(error)}; {WHAT}"
        ) from error


def _method(root: nn.Module, step: MethodStep, values: tuple[Any, ...]) -> tuple[Any, dict[str, str]]:
    """Call a method of the model in both modes, and note which of its modules and weights it reads."""
    used: dict[str, str] = {}

    class Recording(step.kind):  # type: ignore[misc, name-defined]
        def __getattr__(self, name: str) -> Any:
            value = super().__getattr__(name)
            if isinstance(value, nn.Module | Tensor):
                used[name] = name
            return value

    given = dict(zip(step.names, values, strict=True)) if step.names else {}
    found = []
    for training in (True, False):
        shell = copy.copy(root)
        shell.__class__ = Recording
        shell.training = training
        found.append(step.method(shell, **given) if given else step.method(shell, *values))
    if BLOCKS in used:
        raise ValueError(f"{step.path} uses {BLOCKS}, which are units of their own")
    return found[-1], used
