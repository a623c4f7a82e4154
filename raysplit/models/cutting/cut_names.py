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


def name_positions(nodes: Sequence[fx.Node]) -> PositionNames:
    """Name the position after each of these nodes, which are in the order of the graph."""
    plain: list[str] = []
    ends: dict[str, int] = {}
    for position, node in enumerate(nodes, start=1):
        paths = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
        ends |= dict.fromkeys(paths, position)
        plain.append(_name(node, paths[-1] if paths else ""))
    return PositionNames(names=tuple(_numbered(plain)), module_ends=ends)


def _name(node: fx.Node, caller: str) -> str:
    if node.op == "call_module":
        return str(node.meta.get(SAME_MODULE, node.target))
    called = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", node.name)
    return f"{caller}.{called}" if caller else called


def _numbered(names: Sequence[str]) -> list[str]:
    total = Counter(names)
    so_far: Counter[str] = Counter()
    numbered = []
    for name in names:
        so_far[name] += 1
        numbered.append(f"{name}#{so_far[name]}" if total[name] > 1 else name)
    return numbered
