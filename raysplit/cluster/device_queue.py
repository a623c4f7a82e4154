"""A device with one worker and a queue; a policy chooses the work that runs next.

MP-SL (Tirana, Lalis and Chatzopoulos, 2024, arXiv 2402.00208): a compute node runs one task at a time, its own updates
first, then the task that was ready earliest. The order changes times, never results.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args

from raysplit.cluster.device import Work, WorkKind
from raysplit.schedulers.queue import WaitingTask, queue_policy

TaskKind = Literal["forward", "backward", "update"]
TASK_KINDS: tuple[TaskKind, ...] = get_args(TaskKind)
"""The kinds of work that policies tell apart."""

_TASK_KINDS: dict[WorkKind, TaskKind] = {
    "forward": "forward",
    "loss": "forward",  # the start of a new batch
    "backward": "backward",
    "update": "update",
    "average": "update",
    "affinity": "forward",  # a measurement before the batch is trained on
}


def task_kind(kind: WorkKind) -> TaskKind:
    """Return what a kind of work is to the policies of queues."""
    return _TASK_KINDS.get(kind, "forward")


class Turn(Protocol):
    """A waiter in a `WorkQueue`, such as a future: ``set_result(None)`` starts it unless it is ``done``."""

    def done(self) -> bool: ...

    def set_result(self, result: None, /) -> None: ...


class WorkQueue:
    """A queue that admits one piece of work at a time: await `turn`, work, call `leave`.

    The next piece is chosen after everything else of the same instant has happened, so that an update that follows a
    backward pass is in the queue by then.

    Args:
        policy: name of a policy in `raysplit.schedulers.queue`.

    Attributes:
        free_s: time at which the worker becomes free, on the clock of the device that paces it.
    """

    def __init__(self, policy: str = "fifo") -> None:
        self.free_s = 0.0
        self._rank, self._by_owner = queue_policy(policy)
        self._busy = False
        self._lanes: dict[str, deque[tuple[int, WaitingTask, Turn]]] = {}
        self._num_arrivals = 0
        self._served: Counter[str] = Counter()

    async def turn(self, work: Work) -> None:
        """Wait until it is this work's turn."""
        if self.enter(work):
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self.join(work, turn, loop.time())
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # canceled at the moment its turn came
                self.pass_on()
            raise

    def leave(self) -> None:
        """Free the worker for the next piece of work."""
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time(), self.pass_on)

    def enter(self, work: Work) -> bool:
        """Take the worker if it is free, and return whether it was; other work has to `join`."""
        if self._busy:
            return False
        self._busy = True
        if self._by_owner:
            self._served[work.owner] += 1
        return True

    def join(self, work: Work, turn: Turn, ready_s: float) -> None:
        """Add work to its lane. A lane is served in order of arrival, so the policy compares heads only."""
        kind = task_kind(work.kind)
        lane = f"{kind} {work.owner}" if self._by_owner else kind
        waiting = self._num_arrivals, WaitingTask(work.owner, kind, ready_s), turn
        self._num_arrivals += 1
        if lane in self._lanes:
            self._lanes[lane].append(waiting)
        else:
            self._lanes[lane] = deque((waiting,))

    def pass_on(self) -> None:
        """Choose the next piece of work and start it, or mark the worker free."""
        lanes = self._lanes
        if not lanes:
            self._busy = False
            return
        name = next(iter(lanes)) if len(lanes) == 1 else self._next_lane()
        lane = lanes[name]
        _, task, turn = lane.popleft()
        if not lane:
            del lanes[name]
        if turn.done():  # canceled while it waited
            self.pass_on()
        else:
            if self._by_owner:
                self._served[task.owner] += 1
            turn.set_result(None)

    def _next_lane(self) -> str:
        rank, served = self._rank, self._served
        return min([(rank(lane[0][1], served), lane[0][0], name) for name, lane in self._lanes.items()])[2]


class QueueDevice:
    """This process's processor behind a queue with a policy."""

    def __init__(self, *, policy: str = "fifo") -> None:
        self.policy = policy
        self._queue = WorkQueue(policy)

    async def run(self, work: Work, compute: Callable[[], Any]) -> Any:
        await self._queue.turn(work)
        try:
            return compute()
        finally:
            self._queue.leave()
