"""A device with one worker and a queue in front of it; a policy picks what runs next.

MP-SL (Tirana, Lalis and Chatzopoulos, 2024, arXiv 2402.00208): a compute node runs one task at a time, its own updates
first, then what was ready earliest. Order changes when things happen, never what comes out of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Literal

from raysplit.actors.device import Work, WorkKind
from raysplit.schedulers.queue import WaitingTask, queue_policy

_TASK_KINDS: dict[WorkKind, Literal["forward", "backward", "update"]] = {
    "forward": "forward",
    "loss": "forward",  # a new batch comes in
    "backward": "backward",
    "update": "update",
    "average": "update",
    "affinity": "forward",  # a look ahead at the batch that comes in
}
_Waiting = tuple[int, WaitingTask, asyncio.Future[None]]


class WorkQueue:
    """Lets one piece of work in at a time: ``await queue.turn(work)``, work, ``queue.leave()``.

    The choice of the next falls when everything else that happens at the same instant has happened: an update that
    follows a backward pass is in the queue by then.

    Args:
        policy: name of a policy in `raysplit.schedulers.queue`.
    """

    def __init__(self, policy: str = "fifo") -> None:
        self.policy = policy
        self._choose = queue_policy(policy)
        self._busy = False
        self._lanes: dict[str, deque[_Waiting]] = {}
        self._num_arrivals = 0
        self._served: Counter[str] = Counter()
        self.free_s = 0.0

    async def turn(self, work: Work) -> None:
        """Return when it is this work's turn."""
        if self._busy:
            turn = self._join(work)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():  # given up in the very moment it came
                    self._next()
                raise
        self._busy = True
        self._served[work.owner] += 1

    def leave(self) -> None:
        """The worker is free for the next."""
        loop = asyncio.get_running_loop()
        loop.call_at(loop.time(), self._next)

    def _join(self, work: Work) -> asyncio.Future[None]:
        """Within a lane the first to come is the first to go, so only its head is up for choice."""
        loop = asyncio.get_running_loop()
        kind = _TASK_KINDS.get(work.kind, "forward")
        lane = f"{kind} {work.owner}" if self.policy == "fair" else kind
        task = WaitingTask(owner=work.owner, kind=kind, ready_s=loop.time())
        turn: asyncio.Future[None] = loop.create_future()
        self._lanes.setdefault(lane, deque()).append((self._num_arrivals, task, turn))
        self._num_arrivals += 1
        return turn

    def _next(self) -> None:
        heads = sorted((lane[0] for lane in self._lanes.values()), key=lambda head: head[0])
        if not heads:
            self._busy = False
            return
        arrival, _, turn = heads[self._choose([task for _, task, _ in heads], self._served)]
        lane = next(name for name, waiting in self._lanes.items() if waiting[0][0] == arrival)
        self._lanes[lane].popleft()
        if not self._lanes[lane]:
            del self._lanes[lane]
        if turn.done():  # whoever waited has given up
            self._next()
        else:
            turn.set_result(None)


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
