"""Updates of several owners that leave a process together, as the sum of each node of the tree that is whole there.

The aggregator says in the context of a round that all that becomes of the updates is one weighted sum
(`RoundContext.adds_up`). Updates that differ in form, or whose sum is not finite, travel one by one, so that the
receiver names the owner of the one that is wrong.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor

from raysplit.cluster.links.tensors import num_bytes
from raysplit.cluster.sums.tree import Node, weighted_sum, whole_nodes

Request = TypeVar("Request")
_MAX_OWNER_BYTES = 2 * 2**20
"""Updates up to this size are summed before they leave; larger ones would have to wait for each other in memory."""


class Update(NamedTuple):
    """An update that waits for others of its round.

    Attributes:
        party: the aggregator.
        context: the instruction of the round.
        owner: its owner.
        state: weights by name.
    """

    party: str
    context: Any
    owner: str
    state: Mapping[str, Tensor]

    @property
    def round(self) -> tuple[str, int, int]:
        """What updates that may be summed have in common."""
        return self.party, self.context.round, self.context.attempt

    @property
    def number(self) -> int:
        """The owner's number among all owners."""
        return int(self.context.number(self.owner))


class Sum(NamedTuple):
    """The sum of the updates of a node.

    Attributes:
        node: the node of the tree.
        owners: its owners in the cohort.
        each_bytes: the size of one update.
        total: the sum in double precision.
    """

    node: Node
    owners: tuple[str, ...]
    each_bytes: int
    total: dict[str, Tensor]


def as_update(party: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Update | None:
    """Return the arguments of a submission as an update that may be summed; None for any other."""
    if len(args) != 3 or kwargs or not getattr(args[0], "adds_up", False):
        return None
    context, owner, state = args
    if not isinstance(state, Mapping) or owner not in context or num_bytes(state) > _MAX_OWNER_BYTES:
        return None
    return Update(party, context, owner, state)


def sums_of(updates: Iterable[Update]) -> Iterator[tuple[Update, Sum]]:
    """Iterate over the sums of the nodes whose owners are all among these, each with the first update in it.

    Nodes of one owner are left out.
    """
    by_round: dict[tuple[str, int, int], dict[int, Update]] = {}
    for update in updates:
        by_round.setdefault(update.round, {})[update.number] = update
    for here in by_round.values():
        context = next(iter(here.values())).context
        numbers = [context.number(name) for name in context.cohort]
        cohort = sorted(numbers)
        for node in whole_nodes(cohort, here):
            members = [here[number] for number in numbers if node.has(number)]
            total = _sum(node, members, context)
            if total is not None:
                yield members[0], total


def _sum(node: Node, updates: Sequence[Update], context: Any) -> Sum | None:
    if len(updates) == 1:
        return None
    forms = [(v.shape, v.dtype) for v in updates[0].state.values()]
    names = updates[0].state.keys()
    for update in updates[1:]:
        if update.state.keys() != names or [(update.state[k].shape, update.state[k].dtype) for k in names] != forms:
            return None
    weights = [context.weight(update.owner) for update in updates]
    states = [update.state for update in updates]
    total = weighted_sum(states, weights, [update.number for update in updates], node=node)
    if not all(math.isfinite(value.sum()) for value in total.values() if value.is_floating_point()):
        return None
    return Sum(node, tuple(update.owner for update in updates), num_bytes(updates[0].state), total)


class Updates(Generic[Request]):
    """The updates that leave at the end of a turn, each with a request of its own and the future of its answer."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Any, str], tuple[Update, Request, asyncio.Future[Any]]] = {}
        self._second: list[tuple[Request, asyncio.Future[Any]]] = []  # of one owner, for the aggregator to refuse

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, update: Update, request: Request, made: asyncio.Future[Any]) -> None:
        """Add an update."""
        key = update.round, update.owner
        if key in self._waiting:
            self._second.append((request, made))
        else:
            self._waiting[key] = update, request, made

    def taken(
        self, sum_request: Callable[[Request, Update, Sum], Request]
    ) -> Iterator[tuple[Request, asyncio.Future[Any]]]:
        """Iterate over the requests to send, those of sums first, and over the futures of their answers."""
        waiting, second = self._waiting, self._second
        self._waiting, self._second = {}, []
        for first, total in sums_of([update for update, _, _ in waiting.values()]):
            together = [waiting.pop((first.round, owner)) for owner in total.owners]
            yield sum_request(together[0][1], first, total), _for_all([made for _, _, made in together])
        yield from ((request, made) for _, request, made in waiting.values())
        yield from second


def _for_all(made: Sequence[asyncio.Future[Any]]) -> asyncio.Future[Any]:
    """Return a future whose result becomes that of all these."""
    one: asyncio.Future[Any] = made[0].get_loop().create_future()

    def tell(_: asyncio.Future[Any]) -> None:
        error = one.exception()
        for future in made:
            if future.done():
                continue
            if error is None:
                future.set_result(one.result())
            else:
                future.set_exception(error)
                future.exception()  # retrieved: it is raised where the promise is awaited

    one.add_done_callback(tell)
    return one
