"""A part of an exported model: one set of parameters and two graphs, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import fx, nn
from torch.fx.graph_module import _forward_from_src

from raysplit.models.cutting.graph_state import attribute


class ExportedPart(nn.Module):
    """A part of a model that computes by one graph in training mode and by another in evaluation mode.

    Its parameters, buffers and modules are those of `root` that the graphs use, under the same names and in the order
    of `root`.

    Args:
        root: module with the state of the graphs.
        training: graph in training mode.
        evaluation: graph in evaluation mode.
        transient: names of buffers that another part has in its state.
    """

    def __init__(
        self, root: nn.Module, training: fx.Graph, evaluation: fx.Graph, transient: frozenset[str] = frozenset()
    ) -> None:
        super().__init__()
        used = {str(node.target) for graph in (training, evaluation) for node in _with_state(graph)}
        kept = root.state_dict().keys() - transient
        for name, parameter in root.named_parameters(remove_duplicate=False):
            if name in used:
                owner, leaf = self._owner(name)
                owner.register_parameter(leaf, parameter)
        for name, buffer in root.named_buffers(remove_duplicate=False):
            if name in used:
                owner, leaf = self._owner(name)
                owner.register_buffer(leaf, buffer, persistent=name in kept)
        for name in sorted(used):
            value = attribute(root, name)
            if isinstance(value, nn.Module):
                owner, leaf = self._owner(name)
                owner.add_module(leaf, value)
        self._compute: Mapping[bool, Callable[..., Any]] = {True: _compiled(training), False: _compiled(evaluation)}
        self.train(root.training)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self._compute[self.training](self, *inputs, **named)

    def _owner(self, name: str) -> tuple[nn.Module, str]:
        path, _, leaf = name.rpartition(".")
        owner: nn.Module = self
        for step in path.split(".") if path else ():
            if step not in owner._modules:
                owner.add_module(step, nn.Module())
            owner = owner._modules[step]  # type: ignore[assignment]
        return owner, leaf


def _with_state(graph: fx.Graph) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op in ("get_attr", "call_module")]


def _compiled(graph: fx.Graph) -> Callable[..., Any]:
    code = graph.python_code("self")
    forward: Callable[..., Any] = _forward_from_src(code.src, code.globals)
    return forward
