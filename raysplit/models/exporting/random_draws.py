"""The random operators of an exported graph become modules that draw from streams of their own."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import fx, nn

from raysplit.models.cutting.dropout import Grain, SeededDropout
from raysplit.models.cutting.rewrite import separate_dropout_calls
from raysplit.models.exporting.clean import AUTOCAST_OFF, STACK
from raysplit.models.exporting.keyed import KeyedOperator, WithoutAutocast, draws

_DROPOUTS: dict[Any, Grain] = {
    torch.ops.aten.dropout.default: "element",
    torch.ops.aten.dropout_.default: "element",
    torch.ops.aten.feature_dropout.default: "channel",
    torch.ops.aten.feature_dropout_.default: "channel",
}


def key_draws(graph: fx.Graph, root: nn.Module, word: str) -> set[fx.Node]:
    """Replace random operators by modules of `root`, and return the nodes of other modules that a part may repeat.

    The path of such a module is that of the module that calls it, with `word` and the number of its random operator.
    """
    numbers: Counter[str] = Counter()
    repeatable = set()
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if node.target is torch.ops.raysplit.dropout.default:
            _call(node, node.args[1], (node.args[0],))
        elif node.target in _DROPOUTS:
            x, p, trains = node.args
            if trains and p:
                path = _numbered(node, word, numbers)
                root.set_submodule(path, SeededDropout(path, p, _DROPOUTS[node.target]).train(word == "random"))
                _call(node, path, (x,))
            else:
                node.replace_all_uses_with(x)
                graph.erase_node(node)
        elif draws(node.target, node.args, node.kwargs):
            path = _numbered(node, word, numbers)
            root.set_submodule(path, KeyedOperator(path, node.target))
            _call(node, path, node.args, node.kwargs)
        elif AUTOCAST_OFF in node.meta and isinstance(node.target, torch._ops.OpOverload):
            path = f"raysplit_{word}_{node.name}"
            root.set_submodule(path, WithoutAutocast(node.target, node.meta[AUTOCAST_OFF]))
            _call(node, path, node.args, node.kwargs)
            repeatable.add(node)
    separate_dropout_calls(root, graph)
    return repeatable


def _call(node: fx.Node, path: Any, args: tuple[Any, ...], kwargs: Any = None) -> None:
    node.op, node.target, node.args, node.kwargs = "call_module", path, args, kwargs or {}


def _numbered(node: fx.Node, word: str, numbers: Counter[str]) -> str:
    owner, _ = next(reversed(node.meta[STACK].values()), ("", None))
    numbers[owner] += 1
    return f"{owner}.{word}_{numbers[owner]}".lstrip(".")
