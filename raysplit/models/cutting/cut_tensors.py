"""Values that cross a cut: those of a graph that are computed before a position and used after it.

The computing nodes of a graph are numbered 1..n in the order of ``forward``; position p lies after node p.
A tensor that crosses is sent once, even if several nodes behind the cut use it. What follows from sizes, constants and
side inputs alone, such as a causal mask, is not sent but computed again behind the cut; sizes are read there from the
tensors that cross (see `numbers`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, fx, nn

from raysplit.models.cutting.graph_state import has_weights, read_only_buffers, uses_of_state
from raysplit.models.cutting.merging import other_names
from raysplit.models.cutting.numbers import BATCH, Numbers, Seen, Size, SizeKey, Unsendable
from raysplit.models.cutting.randomness import node_draws

Ends = Literal["apart", "together"]
"""Whether the first and the last part of a model are one party's, which may then have tied weights in both."""
VALUE_OPS = ("placeholder", "call_module", "call_function", "call_method")

__all__ = ["Crossings", "GraphFacts", "Sample", "Unsendable"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Shape and dtype of one sample of a tensor that crosses a cut; None in a shape stands for the length."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def num_bytes(self) -> int:
        return self.dtype.itemsize * torch.Size(self.shape).numel()


@dataclass(frozen=True, kw_only=True)
class GraphFacts:
    """What a front end knows of the nodes of its graph.

    Attributes:
        seen: what is known of the value of each node.
        written: names of the buffers that a forward pass writes.
        writes: for a tensor that is written in place through a view, the nodes that write it.
        closed: spans of positions in which a tensor is written in place through a view, so that no cut may lie there.
        repeatable: nodes of the graph that a part may compute again although they are calls of modules.
        leaves: modules that are kept whole, with their first and their last node.
        only_new: whether a position after a number, or after what is computed again behind a cut, is none.
    """

    seen: Mapping[fx.Node, Seen]
    written: frozenset[str] | None = None
    writes: Mapping[fx.Node, tuple[fx.Node, ...]] = field(default_factory=dict)
    closed: Sequence[tuple[fx.Node, fx.Node]] = ()
    repeatable: Collection[fx.Node] = ()
    leaves: Sequence[tuple[str, fx.Node, fx.Node]] = ()
    only_new: bool = False


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What a part behind a position gets and what it makes itself, both in the order of the graph."""

    crossing: tuple[fx.Node, ...]
    again: tuple[fx.Node, ...]


class Crossings:
    """Values that cross each position of a graph.

    Args:
        root: module with the state of the graph.
        graph: the graph.
        facts: what is known of its nodes.
        kept_back: inputs that may not cross any position after the first node.
        side: inputs that may be sent as they are.
        ends: whether the first and the last part are one party's.

    Attributes:
        nodes: the computing nodes in order.
        end: the last position, after all nodes.
        side: inputs that may be sent as they are.
    """

    def __init__(
        self,
        root: nn.Module,
        graph: fx.Graph,
        facts: GraphFacts,
        kept_back: Collection[str] = frozenset(),
        side: Collection[str] = frozenset(),
        ends: Ends = "apart",
    ) -> None:
        self.nodes = [node for node in graph.nodes if node.op in VALUE_OPS and node.op != "placeholder"]
        self.end = len(self.nodes)
        self.facts = facts
        self._position = {node: number for number, node in enumerate(self.nodes, start=1)}
        self._inputs: list[fx.Node] = list(graph.find_nodes(op="placeholder"))
        self._kept_back = kept_back
        self.side = side
        self._ends = ends
        (output,) = graph.find_nodes(op="output")
        self._position |= {**dict.fromkeys(self._inputs, 0), output: self.end + 1}
        self._last_use = {
            node: max((self._position[user] for user in node.users), default=0) for node in [*self._inputs, *self.nodes]
        }
        self._read_only = frozenset(read_only_buffers(root, graph, facts.written))
        self._again = self._repeatable(side)
        self._state_uses = dict(uses_of_state(root, graph, self._position, self._read_only))
        self._of_private = self._computed_from(root, kept_back)
        self._other_names = other_names(root)
        self._trained = {name for name, parameter in root.named_parameters() if parameter.requires_grad}
        self._plans: dict[int, _Plan] = {}

    def position(self, node: fx.Node) -> int:
        """Return the position right after this node."""
        return self._position[node]

    def tensors(self, position: int) -> list[fx.Node]:
        """Return the nodes whose tensors cross here, in the order of the graph."""
        return list(self._plan(position).crossing)

    def made_again(self, position: int) -> list[fx.Node]:
        """Return the nodes that a part behind this position computes again, in the order of the graph."""
        return list(self._plan(position).again)

    def numbers(self, position: int) -> Numbers:
        """Return the sizes that a part behind this position can read."""
        return Numbers(self.facts.seen, self._plan(position).crossing)

    def samples(self, position: int) -> list[Sample]:
        """Describe the tensors that cross here. Raises Unsendable when the first dimension is not the batch."""
        return [self._sample(node) for node in self.tensors(position)]

    def objection(self, position: int) -> str | None:
        """Return why the model cannot be cut here, or None if it can."""
        for path, first, last in self.facts.leaves:
            if self._position[first] <= position < self._position[last]:
                return f"it is inside {path!r}, which is a leaf; cut after {path!r}"
        if shared := self.shared_state([position]):
            return self.objection_to_sharing(shared[0])
        if self.facts.only_new and self._is_old(self.nodes[position - 1]):
            return "what is computed in front of it is computed again behind it"
        for first, last in self.facts.closed:
            if self._position[first] <= position < self._position[last]:
                return f"{first.name!r}, made before it, is written after it through a view"
        try:
            samples = self.samples(position)
        except Unsendable as reason:
            return str(reason)
        if not any(sample.dtype.is_floating_point for sample in samples):
            return self._objection_without_gradient(position) if samples else "no tensor crosses it"
        return None

    def objection_to_sharing(self, name: str) -> str:
        """Say that a cut would divide the uses of a weight, and what helps."""
        tied = [other for other, first in self._other_names.items() if first == name]
        if not tied:
            return f"{name!r} is used before and after it"
        return (
            f"{name!r} is used before it and, as {tied[0]!r}, after it; untie them (Hugging Face: "
            f"model.tie_word_embeddings: false), or give both ends to the owner (algorithm.name: mpsl)"
        )

    def _objection_without_gradient(self, position: int) -> str | None:
        trained = [name for name in self.state_before(position) if name in self._trained]
        if not trained:
            return None
        return (
            f"nothing with a gradient crosses it, and {trained[0]!r} in front of it is to be trained; freeze it "
            f"(model.freeze), or cut elsewhere"
        )

    @property
    def state(self) -> list[str]:
        """Names of the parameters and buffers that the graph uses."""
        return list(self._state_uses)

    def state_before(self, position: int) -> list[str]:
        """Return the names of the parameters and buffers that are used in front of a position alone."""
        return [name for name, uses in self._state_uses.items() if uses[-1] <= position]

    def shared_state(self, positions: Sequence[int]) -> tuple[str, int, int] | None:
        """Return a parameter or buffer that these cuts would put into two parts, with the two parts, or None.

        Tied weights may be in the first and in the last part where these are one party's.
        """
        for name, uses in self._state_uses.items():
            parts = sorted({bisect_left(positions, use) for use in uses})
            if len(parts) > 1 and not (parts == [0, len(positions)] and self._may_be_at_ends(name)):
                return name, parts[0], parts[-1]
        return None

    def _may_be_at_ends(self, name: str) -> bool:
        return self._ends == "together" and name in self._other_names.values()

    def _is_old(self, node: fx.Node) -> bool:
        return node in self._again or not self.facts.seen[node].is_tensor

    def _plan(self, position: int) -> _Plan:
        if position not in self._plans:
            self._plans[position] = self._planned(position)
        return self._plans[position]

    def _planned(self, position: int) -> _Plan:
        """Follow what is needed behind a position back to what crosses; raises Unsendable for a number that cannot."""
        seen = self.facts.seen
        crossing: set[fx.Node] = set()
        again: set[fx.Node] = set()
        numbers: list[fx.Node] = []
        waiting = [n for n, last_use in self._last_use.items() if self._position[n] <= position < last_use]
        while waiting:
            while waiting:
                node = waiting.pop()
                if node in again or node in crossing or node.op == "get_attr":
                    continue
                if seen[node].is_number:
                    numbers.append(node)
                elif node in self._again and node.op != "placeholder":
                    again.add(node)
                    waiting += [*node.all_input_nodes, *self.facts.writes.get(node, ())]
                elif not seen[node].is_tensor:
                    raise Unsendable(f"{node.name!r} would cross it, which is neither a tensor nor a plain number")
                else:
                    crossing.add(node)
            sizes = Numbers(seen, self._ordered(crossing))  # known once all tensors that cross are
            for number in [number for number in numbers if not sizes.has(number)]:
                if not self._is_arithmetic(number):
                    raise Unsendable(f"{number.name!r} would cross it, which is neither a tensor nor a plain number")
                again.add(number)
                waiting += number.all_input_nodes
            numbers = [number for number in numbers if number not in again]
        return _Plan(crossing=self._ordered(crossing), again=self._ordered(again | set(numbers)))

    def _ordered(self, nodes: Collection[fx.Node]) -> tuple[fx.Node, ...]:
        return tuple(node for node in self._last_use if node in nodes)

    def _is_arithmetic(self, node: fx.Node) -> bool:
        """Whether a number is made of other numbers alone."""
        sources = node.all_input_nodes
        return node.op == "call_function" and bool(sources) and all(self.facts.seen[s].is_number for s in sources)

    def _repeatable(self, side: Collection[str]) -> set[fx.Node]:
        """Return the nodes that follow from sizes, constants, buffers that nobody writes, and side inputs alone."""
        found = {node for node in self._inputs if node.target in side}
        for node in self.nodes:
            is_call = node.op in ("call_function", "call_method") or node in self.facts.repeatable
            sources = [*node.all_input_nodes, *self.facts.writes.get(node, ())]
            if is_call and not node_draws(node) and all(self._is_free(source, found) for source in sources):
                found.add(node)
        return found

    def _computed_from(self, root: nn.Module, names: Collection[str]) -> set[fx.Node]:
        """Return the nodes that are computed from these inputs without any weight."""
        found = {node for node in self._inputs if node.target in names}
        for node in self.nodes:
            is_mixed = any(has_weights(root, source) for source in node.all_input_nodes) or (
                node.op == "call_module" and any(True for _ in root.get_submodule(str(node.target)).parameters())
            )
            if not is_mixed and not found.isdisjoint(node.all_input_nodes):
                found.add(node)
        return found

    def _is_free(self, source: fx.Node, found: Collection[fx.Node]) -> bool:
        if source.op == "get_attr":
            return source.target in self._read_only
        return source in found or self.facts.seen[source].is_number

    def _sample(self, node: fx.Node) -> Sample:
        value, sizes = self.facts.seen[node].value, self.facts.seen[node].sizes
        if node in self._inputs and node.target in self._kept_back:
            raise Unsendable(f"the private input {node.target!r} would cross it")
        if node in self._of_private and not value.is_floating_point():
            raise Unsendable(f"{node.name!r} would cross it, which is computed from a private input without any weight")
        if not sizes or sizes[0] != BATCH or any(_has_batch(size) for size in sizes[1:]):
            raise Unsendable(f"{node.name!r} of shape {_shape(value)} would cross it, not one row per sample")
        return Sample(shape=tuple(int(size) for size in value.shape[1:]), dtype=value.dtype)


def _has_batch(size: SizeKey) -> bool:
    return size == BATCH or (isinstance(size, Size) and size.has_batch)


def _shape(value: Tensor) -> tuple[int, ...]:
    return tuple(int(size) for size in value.shape)
