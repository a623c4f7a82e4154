"""Names of the positions of a graph, from the modules and functions of its nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import fx

from raysplit.models.cutting.rewrite import SAME_MODULE


@dataclass(frozen=True, kw_only=True)
class PositionNames:
    """Names of the positions 1..n of a graph.

    Attributes:
        names: the name of each position, such as "layer1.conv" or "layer1.add"; "layer1.relu#2" is a second call.
        module_ends: the position after the last node of each module, by its path.
    """

    names: tuple[str, ...]
    module_ends: Mapping[str, int]

    def all(self) -> list[str]:
        """Return every name that `find` knows, each once."""
        return list(dict.fromkeys([*self.names, *self.module_ends]))

    def find(self, name: str) -> int | None:
        """Return the position with this name, or the one after this module, or None."""
        return self.names.index(name) + 1 if name in self.names else self.module_ends.get(name)


def name_positions(nodes: Sequence[fx.Node], *, by_module: bool = False) -> PositionNames:
    """Name the position after each of these nodes, which are in the order of the graph.

    With `by_module`, the last node of a module is named by the outermost module that ends there.
    """
    plain: list[str] = []
    ends: dict[str, int] = {}
    callers = [[path for path, _ in node.meta.get("nn_module_stack", {}).values() if path] for node in nodes]
    for position, (node, paths) in enumerate(zip(nodes, callers, strict=True), start=1):
        ends |= dict.fromkeys(paths, position)
        plain.append(_name(node, paths[-1] if paths else ""))
    if by_module:
        for position, paths in enumerate(callers, start=1):
            ending = [path for path in paths if ends[path] == position]
            plain[position - 1] = ending[0] if ending else plain[position - 1]
    return PositionNames(names=tuple(_numbered(plain)), module_ends=ends)


def _name(node: fx.Node, caller: str) -> str:
    if node.op == "call_module":
        return str(node.meta.get(SAME_MODULE, node.target))
    called = called_name(node)
    return f"{caller}.{called}" if caller else called


def called_name(node: fx.Node) -> str:
    """Return the plain name of the function or method that a node calls, such as "add" for ``aten.add.Tensor``."""
    packet = getattr(node.target, "overloadpacket", None)
    return str(node.target if isinstance(node.target, str) else getattr(packet or node.target, "__name__", node.name))


def _numbered(names: Sequence[str]) -> list[str]:
    total = Counter(names)
    so_far: Counter[str] = Counter()
    numbered = []
    for name in names:
        so_far[name] += 1
        numbered.append(f"{name}#{so_far[name]}" if total[name] > 1 else name)
    return numbered
