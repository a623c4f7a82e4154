"""A device with one worker and a queue in front of it; a policy picks what runs next.

MP-SL (Tirana, Lalis and Chatzopoulos, 2024, arXiv 2402.00208): a compute node runs one task at a time, its own updates
first, then what was ready earliest. Order changes when things happen, never what comes out of them.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

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


class _Waiting(NamedTuple):
    arrival: int
    task: WaitingTask
    turn: asyncio.Future[None]


class WorkQueue:
    """Lets one piece of work in at a time: `enter`, `wait` where it has to, work, `leave`.

    The choice of the next falls when everything else that happens at the same instant has happened: an update that
    follows a backward pass is in the queue by then.

    Args:
        policy: name of a policy in `raysplit.schedulers.queue`.

    Attributes:
        free_s: until when the worker is spoken for, on the clock of whoever paces it.
    """

    def __init__(self, policy: str = "fifo") -> None:
        self.policy = policy
        self.free_s = 0.0
        self._choose = queue_policy(policy)
        self._busy = False
        self._lanes: dict[str, deque[_Waiting]] = {}
        self._num_arrivals = 0
        self._served: Counter[str] = Counter()

    def enter(self, work: Work) -> asyncio.Future[None] | None:
        """None when it is this work's turn at once, else its turn to come, for `wait`."""
        if self._busy:
            return self._join(work)
        self._busy = True
        self._served[work.owner] += 1
        return None

    async def wait(self, turn: asyncio.Future[None]) -> None:
        """Return when the turn has come."""
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # given up in the very moment it came
                self._next()
            raise

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
        self._lanes.setdefault(lane, deque()).append(_Waiting(self._num_arrivals, task, turn))
        self._num_arrivals += 1
        return turn

    def _next(self) -> None:
        if not self._lanes:
            self._busy = False
            return
        lane = self._lane()
        waiting = self._lanes[lane].popleft()
        if not self._lanes[lane]:
            del self._lanes[lane]
        if waiting.turn.done():  # whoever waited has given up
            self._next()
        else:
            self._served[waiting.task.owner] += 1
            waiting.turn.set_result(None)

    def _lane(self) -> str:
        """The lane whose head goes next; heads are shown to the policy in the order of their arrival."""
        if len(self._lanes) == 1:
            return next(iter(self._lanes))
        heads = sorted((lane[0].arrival, name) for name, lane in self._lanes.items())
        return heads[self._choose([self._lanes[name][0].task for _, name in heads], self._served)][1]


class QueueDevice:
    """This process's own processor behind a queue with a policy."""

    def __init__(self, *, policy: str = "fifo") -> None:
        self.policy = policy
        self._queue = WorkQueue(policy)

    async def run(self, work: Work, compute: Callable[[], Any]) -> Any:
        turn = self._queue.enter(work)
        if turn is not None:
            await self._queue.wait(turn)
        try:
            return compute()
        finally:
            self._queue.leave()
