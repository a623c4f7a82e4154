"""Parameters and buffers in a graph: which nodes use them, and which of them are only read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import chain
from typing import Any

from torch import Tensor, fx, nn


def uses_of_state(
    root: nn.Module, graph: fx.Graph, position: Mapping[fx.Node, int], read_only: Collection[str]
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Return each parameter and buffer but the read-only ones, tied ones once, with the uses of each in order."""
    names: dict[int, str] = {}
    uses: dict[int, list[int]] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            module = root.get_submodule(node.target)
            state = _state_of(node.target, module)
            used_at = [position[node]]
        elif node.op == "get_attr" and node.target not in read_only:
            value = attribute(root, node.target)
            state = _state_of(node.target, value) if isinstance(value, nn.Module) else [(node.target, value)]
            used_at = [position[user] for user in node.users]
        else:
            continue
        for name, tensor in state:
            names.setdefault(id(tensor), name)
            uses.setdefault(id(tensor), []).extend(used_at)
    for key, positions in uses.items():
        if positions:
            yield names[key], tuple(sorted(set(positions)))


def _state_of(path: str, module: nn.Module) -> list[tuple[str, Any]]:
    return [(f"{path}.{name}", value) for name, value in chain(module.named_parameters(), module.named_buffers())]


def read_only_buffers(root: nn.Module, graph: fx.Graph, written: Collection[str] | None) -> Iterator[str]:
    """Return the names of the buffers that a graph reads by name and that no forward pass writes.

    `written` are the names of the written ones, or None where only the names of operators tell.
    """
    in_modules = {
        id(buffer)
        for node in graph.find_nodes(op="call_module")
        for buffer in root.get_submodule(str(node.target)).buffers()
    }
    for node in graph.find_nodes(op="get_attr"):
        value = attribute(root, str(node.target))
        if not isinstance(value, Tensor) or isinstance(value, nn.Parameter) or id(value) in in_modules:
            continue
        if written is None:
            if not any(_may_write(user) for user in node.users):
                yield str(node.target)
        elif node.target not in written:
            yield str(node.target)


def _may_write(node: fx.Node) -> bool:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "_")
    return name.endswith("_") or "batch_norm" in name or "instance_norm" in name or name in ("setitem", "copyto")


def attribute(root: nn.Module, path: str) -> Any:
    """Return the attribute of a module at this path."""
    owner, _, name = path.rpartition(".")
    return getattr(root.get_submodule(owner), name)


def has_weights(root: nn.Module, node: fx.Node) -> bool:
    """Whether a node stands for a parameter of the model, or for a module with parameters."""
    if node.op != "get_attr":
        return False
    value = attribute(root, str(node.target))
    return any(True for _ in value.parameters()) if isinstance(value, nn.Module) else isinstance(value, nn.Parameter)


def is_weight(root: nn.Module, node: fx.Node) -> bool:
    """Whether a node stands for a parameter of the model."""
    return node.op == "get_attr" and isinstance(attribute(root, str(node.target)), nn.Parameter)
