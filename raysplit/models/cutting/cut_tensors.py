"""Values that cross a cut: those of a graph that are computed before a position and used after it.

The computing nodes of a graph are numbered 1..n in the order of ``forward``; position p lies after node p.
A tensor that crosses is sent once, even if several nodes behind the cut use it. Numbers that cross, such as sizes from
``x.shape``, are not sent: those that do not depend on the batch become constants behind the cut, and the batch size is
read there from the first tensor that crosses. To distinguish the two, the graph is run with b and with b + 1 samples.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, fx, nn

from raysplit.data.inputs import Values
from raysplit.models.cutting.tracing import arguments

VALUE_OPS = ("placeholder", "call_module", "call_function", "call_method")
PLAIN_TYPES = (int, float, bool, str, torch.dtype, type(None))


class Unsendable(Exception):
    """A value that cannot be sent, or computed again behind a cut; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Shape and dtype of one sample of a tensor that crosses a cut."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        return self.dtype.itemsize * torch.Size(self.shape).numel()


class Crossings:
    """Values that cross each position of a graph.

    Args:
        root: module with the state of the graph.
        graph: the graph.
        example: a batch of its inputs.
        kept_back: inputs that may not cross any position after the first node.

    Attributes:
        nodes: the computing nodes in order.
        end: the last position, after all nodes.
    """

    def __init__(
        self, root: nn.Module, graph: fx.Graph, example: Values, kept_back: Collection[str] = frozenset()
    ) -> None:
        self.nodes = [node for node in graph.nodes if node.op in VALUE_OPS and node.op != "placeholder"]
        self.end = len(self.nodes)
        self._position = {node: number for number, node in enumerate(self.nodes, start=1)}
        self._inputs: list[fx.Node] = list(graph.find_nodes(op="placeholder"))
        self._kept_back = kept_back
        (output,) = graph.find_nodes(op="output")
        self._position |= {**dict.fromkeys(self._inputs, 0), output: self.end + 1}
        self._last_use = {
            node: max((self._position[user] for user in node.users), default=0) for node in [*self._inputs, *self.nodes]
        }
        small = arguments(graph, example)
        self._small = _run(root, graph, small)
        self._large = _run(root, graph, tuple(torch.cat([value, value[:1]]) for value in small))
        self._num_small = len(small[0])
        self._state_spans = dict(self._spans_of_state(root, graph))

    def position(self, node: fx.Node) -> int:
        """Return the position right after this node."""
        return self._position[node]

    def tensors(self, position: int) -> list[fx.Node]:
        """Return the nodes whose tensors cross here, in the order of the graph."""
        return [node for node in self._alive(position) if isinstance(self._small[node], Tensor)]

    def numbers(self, position: int) -> list[fx.Node]:
        """Return the nodes whose values cross here and are no tensors."""
        return [node for node in self._alive(position) if not isinstance(self._small[node], Tensor)]

    def samples(self, position: int) -> list[Sample]:
        """Describe the tensors that cross here. Raises Unsendable when the first dimension is not the batch."""
        return [self._sample(node) for node in self.tensors(position)]

    def remake(self, node: fx.Node, batch_size: Any, device: Any) -> Any:
        """Return the value of a node, which is no tensor, for use behind a cut.

        `batch_size` and `device` stand for the size and the device of the batch. Raises Unsendable when the value
        depends on the batch in another way.
        """
        return self._remake(node, self._small[node], self._large[node], batch_size, device)

    def objection(self, position: int) -> str | None:
        """Return why the model cannot be cut here, or None if it can."""
        if shared := self.shared_state([position]):
            return f"{shared[0]!r} is used before and after it"
        try:
            for node in self.numbers(position):
                self.remake(node, None, None)
            return None if self.samples(position) else "no tensor crosses it"
        except Unsendable as reason:
            return str(reason)

    def state_before(self, position: int) -> list[str]:
        """Return the names of the parameters and buffers that are used in front of a position alone."""
        return [name for name, (_, last) in self._state_spans.items() if last <= position]

    def shared_state(self, positions: Sequence[int]) -> tuple[str, int, int] | None:
        """Return a parameter or buffer that these cuts would put into two parts, with the two parts, or None."""
        for name, (first, last) in self._state_spans.items():
            parts = bisect_left(positions, first), bisect_left(positions, last)
            if parts[0] != parts[1]:
                return name, *parts
        return None

    def _alive(self, position: int) -> list[fx.Node]:
        return [node for node, last_use in self._last_use.items() if self._position[node] <= position < last_use]

    def _sample(self, node: fx.Node) -> Sample:
        small, large = self._small[node], self._large[node]
        if node in self._inputs and node.target in self._kept_back:
            raise Unsendable(f"the private input {node.target!r} would cross it")
        if not small.is_floating_point() and node not in self._inputs:
            raise Unsendable(f"{node.name!r} would cross it, a tensor of {small.dtype} that has no gradient")
        if small.shape != (self._num_small, *small.shape[1:]) or large.shape != (self._num_small + 1, *small.shape[1:]):
            raise Unsendable(f"{node.name!r} of shape {tuple(small.shape)} would cross it, not one row per sample")
        return Sample(shape=tuple(small.shape[1:]), dtype=small.dtype)

    def _remake(self, node: fx.Node, small: Any, large: Any, batch_size: Any, device: Any) -> Any:
        if type(small) is int and (small, large) == (self._num_small, self._num_small + 1):
            return batch_size
        if isinstance(small, torch.device):
            return device
        if isinstance(small, PLAIN_TYPES) and small == large:
            return small
        if isinstance(small, tuple | list) and len(small) == len(large):
            pairs = zip(small, large, strict=True)
            return tuple(self._remake(node, a, b, batch_size, device) for a, b in pairs)
        raise Unsendable(f"{node.name!r} would cross it, which is neither a tensor nor a plain number")

    def _spans_of_state(self, root: nn.Module, graph: fx.Graph) -> Iterator[tuple[str, tuple[int, int]]]:
        """Return each parameter and buffer, tied ones once, with the first and last position that uses it."""
        names: dict[int, str] = {}
        uses: dict[int, list[int]] = {}
        for node in graph.nodes:
            if node.op == "call_module":
                module = root.get_submodule(node.target)
                state = [(f"{node.target}.{n}", t) for n, t in chain(module.named_parameters(), module.named_buffers())]
                used_at = [self._position[node]]
            elif node.op == "get_attr":
                state = [(node.target, _attribute(root, node.target))]
                used_at = [self._position[user] for user in node.users]
            else:
                continue
            for name, tensor in state:
                names.setdefault(id(tensor), name)
                uses.setdefault(id(tensor), []).extend(used_at)
        for key, positions in uses.items():
            if positions:
                yield names[key], (min(positions), max(positions))


class _Recorder(fx.Interpreter):
    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__(root, graph=graph)
        self.seen: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.seen[n] = torch.empty_like(value, device="meta") if isinstance(value, Tensor) else value
        return value


def _run(root: nn.Module, graph: fx.Graph, values: tuple[Tensor, ...]) -> dict[fx.Node, Any]:
    """Return the value of every node, with tensors on the meta device."""
    recorder = _Recorder(root, graph)
    with torch.no_grad():
        recorder.run(*values)
    return recorder.seen


def _attribute(root: nn.Module, path: str) -> Tensor:
    owner, _, name = path.rpartition(".")
    tensor: Tensor = getattr(root.get_submodule(owner), name)
    return tensor
