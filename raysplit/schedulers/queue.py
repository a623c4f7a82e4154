"""The order in which a compute node runs its waiting tasks.

A node has one worker and a queue of forward, backward and update tasks of all owners. MP-SL (Tirana, Lalis and
Chatzopoulos, 2024, arXiv 2402.00208) takes the node's own updates first, then the task that was ready earliest. A
policy is a pure function. All policies run updates first, so that an owner's weights are up to date before its next
batch. The order cannot change the trained weights, only the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from raysplit.registry import one_of


class WaitingTask(NamedTuple):
    """A task that could start now.

    Attributes:
        owner: the owner whose batch it is.
        kind: a forward or backward pass, which a neighbor sends, or the update that follows a backward pass.
        ready_s: the time at which it became ready, in seconds on the node's clock.
    """

    owner: str
    kind: Literal["forward", "backward", "update"]
    ready_s: float


Rank = Callable[[WaitingTask, Mapping[str, int]], tuple[float, ...]]
"""The rank of a waiting task, given the number of tasks that each owner has had run. The lowest rank runs next, the
earliest task on a tie."""


class QueuePolicy(NamedTuple):
    """A policy by which a node chooses its next task.

    Attributes:
        rank: see `Rank`. It increases with the time at which a task became ready, all else being equal.
        by_owner: whether it uses the number of tasks run for each owner; if not, that mapping is empty.
    """

    rank: Rank
    by_owner: bool = False


def fifo(task: WaitingTask, served: Mapping[str, int]) -> tuple[float, ...]:
    """Rank updates first, then the task that was ready earliest."""
    return task.kind != "update", task.ready_s


_BACKWARD_FIRST = {"update": 0, "backward": 1, "forward": 2}


def backward_first(task: WaitingTask, served: Mapping[str, int]) -> tuple[float, ...]:
    """Rank like `fifo`, but backward before forward passes, as they free activations and their owner."""
    return _BACKWARD_FIRST[task.kind], task.ready_s


def fair(task: WaitingTask, served: Mapping[str, int]) -> tuple[float, ...]:
    """Rank like `fifo`, but the owner with the fewest tasks run first."""
    return task.kind != "update", served.get(task.owner, 0), task.ready_s


POLICIES = {
    "fifo": QueuePolicy(fifo),
    "backward_first": QueuePolicy(backward_first),
    "fair": QueuePolicy(fair, by_owner=True),
}


def queue_policy(name: str) -> QueuePolicy:
    """Return the policy of this name. Raises ValueError for an unknown one."""
    return POLICIES[one_of("queue policy", name, POLICIES)]
