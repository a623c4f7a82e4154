"""Rewriting of a traced graph, so that it never writes in place and each dropout has its own stream.

A part receives read-only views of shared memory, so ``nn.ReLU(inplace=True)``, ``F.relu_(x)``, ``x.add_(y)`` and
similar calls become out-of-place. Later uses of the tensor that was written then read the new value.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from raysplit.models.cutting.dropout import Grain, SeededDropout

SAME_MODULE = "raysplit_same_module"  # key in the meta of a node for the module that the model itself calls there

IN_PLACE_OPERATORS: dict[Any, Any] = {
    getattr(operator, f"i{name}"): getattr(operator, name)
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "matmul")
}
FILLS: dict[str, Callable[..., Tensor]] = {"zero_": torch.zeros_like, "fill_": torch.full_like}
DROPOUT_FUNCTIONS: dict[Any, Grain] = {
    F.dropout: "element",
    F.dropout1d: "channel",
    F.dropout2d: "channel",
    F.dropout3d: "channel",
}


def describe(node: fx.Node) -> str:
    """Describe a node for an error: its name, what it calls, and the module around it."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    target = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", repr(node.target))
    return f"{node.name!r} ({target} in module {stack[-1][0]!r})" if stack else f"{node.name!r} ({target})"


def is_dropout_function(node: fx.Node) -> bool:
    """Whether this node calls a dropout function, which takes ``training`` as an argument."""
    return node.op == "call_function" and node.target in DROPOUT_FUNCTIONS


def bound_arguments(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of a call of a Python function by name, defaults included."""
    assert callable(node.target)
    bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def use_dropout_module(root: nn.Module, node: fx.Node, kind: type[SeededDropout]) -> None:
    """Replace a call of a dropout function by a call of a new module, a child of the calling module."""
    arguments = bound_arguments(node)
    grain = DROPOUT_FUNCTIONS[node.target]
    owner, _ = next(reversed(node.meta.get("nn_module_stack", {"": ("", None)}).values()))
    path = f"{owner}.{node.name}_module".lstrip(".")
    root.set_submodule(path, kind(path, arguments["p"], grain).train(root.get_submodule(owner).training))
    node.op, node.target, node.args, node.kwargs = "call_module", path, (arguments["input"],), {}


def separate_dropout_calls(root: nn.Module, graph: fx.Graph) -> None:
    """Give each repeated call of a dropout module its own module, hence its own stream."""
    calls: dict[str, int] = {}
    for node in graph.find_nodes(op="call_module"):
        assert isinstance(node.target, str)
        module = root.get_submodule(node.target)
        if not isinstance(module, SeededDropout):
            continue
        calls[module.path] = calls.get(module.path, 0) + 1
        if calls[module.path] > 1:
            path = f"{module.path}_call{calls[module.path]}"
            root.set_submodule(path, type(module)(path, module.p, module.grain).train(module.training))
            node.meta[SAME_MODULE], node.target = node.target, path


def in_place_modules(model: nn.Module) -> frozenset[str]:
    """Return the paths of the modules that write to their argument."""
    return frozenset(path for path, module in model.named_modules() if getattr(module, "inplace", False) is True)


def turn_off_in_place(root: nn.Module, paths: Iterable[str]) -> None:
    """Have the modules at these paths leave their argument as it is: what a part receives is read-only."""
    for path in paths:
        setattr(root.get_submodule(path), "inplace", False)  # noqa: B010  (not every module declares it)


def write_out_of_place(root: nn.Module, graph: fx.Graph, in_place: frozenset[str]) -> None:
    """Replace in-place calls, also those of the modules `in_place`, by out-of-place ones.

    Writes to buffers of the model stay, since these are the state of the part. Raises ValueError for a call without an
    out-of-place counterpart.
    """
    turn_off_in_place(root, in_place)
    order = {node: number for number, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if (node.op == "call_module" and node.target in in_place) or _make_pure(node):
            written = node.args[0]
            later = order[node]
            written.replace_all_uses_with(node, delete_user_cb=lambda user, later=later: order[user] > later)


def _make_pure(node: fx.Node) -> bool:
    """Replace an in-place call by its counterpart, and return whether it wrote to its first argument."""
    if node.op not in ("call_function", "call_method"):
        return False
    if node.kwargs.get("out") is not None:
        raise ValueError(f"node {describe(node)} writes through out=; assign the result instead")
    if node.kwargs.get("inplace") is True:
        node.kwargs = {**node.kwargs, "inplace": False}
        return True
    if node.target in IN_PLACE_OPERATORS:
        node.target = IN_PLACE_OPERATORS[node.target]
        return True
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    writes = name.endswith("_") and not name.endswith("__") and name != "requires_grad_"
    if not writes or _is_state(node.args[0]):
        return False
    node.op, node.target = _counterpart(node, name)
    return True


def _is_state(argument: Any) -> bool:
    return isinstance(argument, fx.Node) and argument.op == "get_attr"


def _counterpart(node: fx.Node, name: str) -> tuple[str, Any]:
    if name in FILLS:
        return "call_function", FILLS[name]
    pure = name.removesuffix("_")
    if node.op == "call_method" and hasattr(Tensor, pure):
        return "call_method", pure
    for module in (torch, F):
        if node.op == "call_function" and hasattr(module, pure):
            return "call_function", getattr(module, pure)
    raise ValueError(
        f"node {describe(node)} writes in place and has no out-of-place counterpart; "
        "received tensors are read-only: make a new tensor in the model's forward"
    )
