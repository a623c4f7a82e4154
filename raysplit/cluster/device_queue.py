"""A device with one worker and a queue in front of it; a policy picks what runs next.

MP-SL (Tirana, Lalis and Chatzopoulos, 2024, arXiv 2402.00208): a compute node runs one task at a time, its own updates
first, then what was ready earliest. Order changes when things happen, never what comes out of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Literal, Protocol

from raysplit.cluster.device import Work, WorkKind
from raysplit.schedulers.queue import WaitingTask, queue_policy

_TASK_KINDS: dict[WorkKind, Literal["forward", "backward", "update"]] = {
    "forward": "forward",
    "loss": "forward",  # a new batch comes in
    "backward": "backward",
    "update": "update",
    "average": "update",
    "affinity": "forward",  # a look ahead at the batch that comes in
}


class Turn(Protocol):
    """What is told that its turn has come, by ``set_result(None)``, unless it is done with waiting: a future, say."""

    def done(self) -> bool: ...

    def set_result(self, result: None, /) -> None: ...


class WorkQueue:
    """Lets one piece of work in at a time: await `turn`, work, `leave`.

    The choice of the next falls when everything else that happens at the same instant has happened: an update that
    follows a backward pass is in the queue by then.

    Args:
        policy: name of a policy in `raysplit.schedulers.queue`.

    Attributes:
        free_s: until when the worker is spoken for, on the clock of whoever paces it.
    """

    def __init__(self, policy: str = "fifo") -> None:
        self.free_s = 0.0
        self._rank, self._by_owner = queue_policy(policy)
        self._busy = False
        self._lanes: dict[str, deque[tuple[int, WaitingTask, Turn]]] = {}
        self._num_arrivals = 0
        self._served: Counter[str] = Counter()

    async def turn(self, work: Work) -> None:
        """Return when it is this work's turn."""
        if self.enter(work):
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self.join(work, turn, loop.time())
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # given up in the very moment it came
                self.pass_on()
            raise

    def leave(self) -> None:
        """The worker is free for the next."""
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time(), self.pass_on)

    def enter(self, work: Work) -> bool:
        """Whether it is this work's turn at once; else it has to `join`."""
        if self._busy:
            return False
        self._busy = True
        if self._by_owner:
            self._served[work.owner] += 1
        return True

    def join(self, work: Work, turn: Turn, ready_s: float) -> None:
        """Wait behind others. In a lane the first to come is the first to go, so only its head is up for choice."""
        kind = _TASK_KINDS.get(work.kind, "forward")
        lane = f"{kind} {work.owner}" if self._by_owner else kind
        waiting = self._num_arrivals, WaitingTask(work.owner, kind, ready_s), turn
        self._num_arrivals += 1
        if lane in self._lanes:
            self._lanes[lane].append(waiting)
        else:
            self._lanes[lane] = deque((waiting,))

    def pass_on(self) -> None:
        """Choose the next, now."""
        lanes = self._lanes
        if not lanes:
            self._busy = False
            return
        name = next(iter(lanes)) if len(lanes) == 1 else self._lane()
        lane = lanes[name]
        _, task, turn = lane.popleft()
        if not lane:
            del lanes[name]
        if turn.done():  # whoever waited has given up
            self.pass_on()
        else:
            if self._by_owner:
                self._served[task.owner] += 1
            turn.set_result(None)

    def _lane(self) -> str:
        """The lane whose head goes next."""
        rank, served = self._rank, self._served
        return min([(rank(lane[0][1], served), lane[0][0], name) for name, lane in self._lanes.items()])[2]


class QueueDevice:
    """This process's own processor behind a queue with a policy."""

    def __init__(self, *, policy: str = "fifo") -> None:
        self.policy = policy
        self._queue = WorkQueue(policy)

    async def run(self, work: Work, compute: Callable[[], Any]) -> Any:
        await self._queue.turn(work)
        try:
            return compute()
        finally:
            self._queue.leave()
