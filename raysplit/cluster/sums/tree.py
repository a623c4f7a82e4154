"""Sums over owners along a tree whose shape depends on the owners alone.

Owners in different processes can be summed where they are, and the sums can be added elsewhere, with the same bits as
in one process: a node of the tree has the owners whose numbers leave a remainder when they are divided by a power of
two. Where owners are dealt out to two, four, eight or sixteen processes in turn, each process has a node to itself.
Within a leaf owners are added in their order. Everything is added in double precision.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

LEAVES = 16
"""The number of leaves, a power of two."""
State = Mapping[str, Tensor]


class Node(NamedTuple):
    """The owners whose numbers have this remainder when divided by ``divisor``, a power of two up to `LEAVES`."""

    divisor: int
    remainder: int

    def has(self, number: int) -> bool:
        """Return whether an owner belongs to this node, by its number."""
        return number % self.divisor == self.remainder

    @property
    def halves(self) -> tuple[Node, Node]:
        """The two nodes that this one is the sum of."""
        return Node(2 * self.divisor, self.remainder), Node(2 * self.divisor, self.remainder + self.divisor)


ROOT = Node(1, 0)


def whole_nodes(cohort: Collection[int], here: Collection[int], node: Node = ROOT) -> Iterator[Node]:
    """Iterate over the largest nodes whose owners are all here.

    Args:
        cohort: the numbers of all owners that are summed.
        here: the numbers of those that are here.
        node: where to begin.
    """
    members = [number for number in cohort if node.has(number)]
    if members and all(number in here for number in members):
        yield node
    elif node.divisor < LEAVES and any(node.has(number) for number in here):
        for half in node.halves:
            yield from whole_nodes(members, here, half)


def weighted_sum(
    states: Sequence[State | None],
    weights: Sequence[float],
    numbers: Sequence[int],
    *,
    sums: Mapping[Node, State] | None = None,
    node: Node = ROOT,
) -> dict[str, Tensor]:
    """Sum states along the tree, in double precision. Integer entries (batch counters) are those of the first state.

    Args:
        states: states of the owners with the same entries, in owner order; None for owners that are in ``sums``.
        weights: a weight for each.
        numbers: the number of each owner.
        sums: sums of whole nodes that were formed before, by this function.
        node: the node whose sum is wanted.
    """
    sums = sums or {}
    members: dict[Node, list[int]] = {}
    first = None
    for position, number in enumerate(numbers):
        if node.has(number):
            first = position if first is None else first
            members.setdefault(Node(LEAVES, number % LEAVES), []).append(position)
    if first is None:
        raise ValueError("a sum needs at least one state")
    of_first = states[first]
    if of_first is None:
        of_first = next(sum_ for at, sum_ in sums.items() if at.has(numbers[first]))

    def added(key: str, at: Node) -> Tensor | None:
        if at in sums:
            return sums[at][key]
        if at.divisor < LEAVES:
            one, other = (added(key, half) for half in at.halves)
            return one + other if one is not None and other is not None else other if one is None else one
        total: Tensor | None = None
        for position in members.get(at, ()):
            state = states[position]
            assert state is not None, "an owner without a state is in a sum"
            if total is None:
                total = state[key].double() * weights[position]
            else:
                total.add_(state[key], alpha=weights[position])
        return total

    found: dict[str, Tensor] = {}
    for key, value in of_first.items():
        total = added(key, node) if value.is_floating_point() else value.clone()
        assert total is not None
        found[key] = total
    return found
