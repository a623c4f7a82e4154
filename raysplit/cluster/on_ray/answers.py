"""The answers of places: to single calls, and to calls that travel together in one message each way.

A message between processes costs as much as a training step of a small model. Calls to one place that are answered at
about the same time (the rounds of its owners, their submissions, their shares of a joint step) are collected until the
end of the turn of the event loop, and come back together. If one of them fails, the others' answers are fetched one by
one, so that whoever waits for the one that failed hears of it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

from ray import cloudpickle
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    WorkerCrashedError,
)
from ray.exceptions import RayTaskError as RayTaskError

from raysplit.cluster.contract import PlaceLost
from raysplit.cluster.links.kinds import SUBMIT_SUM
from raysplit.cluster.links.tensors import Envelope, Sealed, opened, sealed
from raysplit.cluster.sums.leaving import Sum, Update, Updates

# Ray's errors for a process or a machine that is gone, with the objects that it held.
GONE = (RayActorError, ObjectLostError, NodeDiedError, WorkerCrashedError, LocalRayletDiedError, OutOfMemoryError)

MAX_BYTES = 32 * 2**20
"""Bytes of arguments beyond which collected calls are sent before the end of the turn."""


_TURNS = 4  # of the event loop in which tasks end that the same event has woken


class Request(NamedTuple):
    """A call in transit.

    Attributes:
        party, verb: who is called, and what.
        sent: the arguments; None stands for one that another call answers.
        names: names of the keyword arguments, which come last.
        later: positions of those answers among the answers that come with the message.
        waits: whether the answer is of no use without those of the calls that come with it.
    """

    party: str
    verb: str
    sent: Sequence[Sealed | None]
    names: tuple[str, ...]
    later: tuple[int, ...] = ()
    waits: bool = False


class Failed(NamedTuple):
    """The outcome of a call that raised an error."""

    error: BaseException


class Unfinished(NamedTuple):
    """The outcome of a call that is not done; its answer is fetched by this key."""

    key: int


@dataclass(kw_only=True)
class Together:
    """The calls from this process to one place that leave at the end of the present turn of the event loop."""

    place: str
    actor: Any
    _requests: list[Request] = field(default_factory=list)
    _answers: list[Any] = field(default_factory=list)
    _made: list[asyncio.Future[Envelope]] = field(default_factory=list)
    _updates: Updates[Request] = field(default_factory=Updates)
    _num_bytes: int = 0
    _loop: asyncio.AbstractEventLoop | None = None
    _receiving: set[asyncio.Task[None]] = field(default_factory=set)

    def add(self, request: Request, answers: Sequence[Any]) -> asyncio.Future[Envelope]:
        """Collect a call, and return the future of its answer."""
        loop = self._will_send()
        for answer in answers:
            if answer not in self._answers:
                self._answers.append(answer)
        made: asyncio.Future[Envelope] = loop.create_future()
        self._requests.append(request._replace(later=tuple(self._answers.index(answer) for answer in answers)))
        self._made.append(made)
        return self._sent_if_much(request, made)

    def add_update(self, update: Update, request: Request) -> asyncio.Future[Envelope]:
        """Collect an update, which leaves in a sum or as this request, and return the future of its answer."""
        made: asyncio.Future[Envelope] = self._will_send().create_future()
        self._updates.add(update, request, made)
        return self._sent_if_much(request, made)

    def _will_send(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # what another loop has left when it ended has no reader
            self._loop = loop
            self._clear()
        if not self._requests and not self._updates:
            loop.call_soon(self.send)
        return loop

    def _sent_if_much(self, request: Request, made: asyncio.Future[Envelope]) -> asyncio.Future[Envelope]:
        self._num_bytes += sum(seal[2] for seal in request.sent if seal is not None)
        if self._num_bytes > MAX_BYTES:
            self.send()
        return made

    def send(self) -> None:
        """Send what is collected. Call this before another call to the place, which must not overtake these."""
        for request, made in self._updates.taken(_sum_request):
            self._requests.append(request)
            self._made.append(made)
        if not self._requests:
            return
        ref = self.actor.calls.remote(self._requests, *self._answers)
        task = asyncio.get_running_loop().create_task(self._receive(ref, self._made))
        self._receiving.add(task)
        task.add_done_callback(self._receiving.discard)
        self._clear()

    def _clear(self) -> None:
        self._requests, self._answers, self._made, self._num_bytes = [], [], [], 0
        self._updates = Updates()

    async def _receive(self, ref: Any, made: Sequence[asyncio.Future[Envelope]]) -> None:
        try:
            outcomes = await unwrapped(ref, self.place)
        except Exception as error:
            for future in made:
                _set_error(future, error if not isinstance(error, PlaceLost) else PlaceLost(error.place, error.reason))
            return
        rest = []
        for future, outcome in zip(made, outcomes, strict=True):
            if isinstance(outcome, Failed):
                _set_error(future, outcome.error)
            elif isinstance(outcome, Unfinished):
                rest.append(self._receive_one(self.actor.rest.remote(outcome.key), future))
            elif not future.done():
                future.set_result(opened(outcome))
        await asyncio.gather(*rest)

    async def _receive_one(self, ref: Any, future: asyncio.Future[Envelope]) -> None:
        try:
            answer = opened(await unwrapped(ref, self.place))
        except Exception as error:
            _set_error(future, error)
        else:
            if not future.done():
                future.set_result(answer)


def _sum_request(request: Request, update: Update, total: Sum) -> Request:
    """Return the request of a sum in place of those of its updates, of which these are the first one's."""
    return Request(request.party, SUBMIT_SUM, [sealed(update.owner, value) for value in (update.context, total)], ())


def _set_error(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # retrieved: it is raised where the promise is awaited


class Outcomes:
    """The outcomes of calls that came together, at the place."""

    _MOST_KEPT = 100_000

    def __init__(self) -> None:
        self._keys = count()
        self._unfinished: dict[int, asyncio.Task[Sealed]] = {}

    async def of(self, tasks: Sequence[asyncio.Task[Sealed]], *, all_at_once: bool) -> list[Any]:
        """Wait for tasks and return an outcome for each.

        With ``all_at_once`` no answer is of use without the others, and this waits until all are done or one has
        failed. Without it, a caller may need its answer for what others of them wait for: this waits for the first and
        those that end with it, as the shares of a joint step do.
        """
        if all_at_once:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        else:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for _ in range(_TURNS):
                if all(task.done() for task in tasks):
                    break
                await asyncio.sleep(0)
        return [self._of(task) for task in tasks]

    def _of(self, task: asyncio.Task[Sealed]) -> Any:
        if not task.done():
            key = next(self._keys)
            self._unfinished[key] = task
            task.add_done_callback(_retrieve)
            if len(self._unfinished) > self._MOST_KEPT:  # of callers that are gone
                del self._unfinished[next(iter(self._unfinished))]
            return Unfinished(key)
        if task.cancelled():
            return Failed(asyncio.CancelledError())
        error = task.exception()
        return task.result() if error is None else Failed(_picklable(error))

    async def rest(self, key: int) -> Sealed:
        """Wait for the answer of a call that was unfinished."""
        return await self._unfinished.pop(key)


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


def _picklable(error: BaseException) -> BaseException:
    with suppress(Exception):
        cloudpickle.loads(cloudpickle.dumps(error))
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


async def unwrapped(ref: Any, place: str) -> Any:
    """Await a reference; raise the party's own error, or `PlaceLost` for a place that is gone."""
    try:
        return await ref
    except RayTaskError as error:
        raise cause_of(error) from None
    except GONE as error:
        raise PlaceLost(place, first_line(error)) from None


def cause_of(error: RayTaskError) -> BaseException:
    """Return the error of the party that a task's error wraps."""
    cause = error.cause
    while isinstance(cause, RayTaskError):
        cause = cause.cause
    if isinstance(cause, GONE):
        return PlaceLost("unknown", first_line(cause))
    return cause if isinstance(cause, BaseException) else RuntimeError(str(error))


def first_line(error: RayError) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


async def asked(actors: Mapping[str, Any], verb: str) -> list[Any]:
    """Call a verb of all places and return their answers."""
    calls = {name: getattr(actor, verb).remote() for name, actor in actors.items()}
    return [await unwrapped(ref, name) for name, ref in calls.items()]


async def silent(actors: Mapping[str, Any], silence_s: float) -> dict[str, str]:
    """Return the places that do not answer within ``silence_s`` seconds, each with the reason."""
    pulses = {name: asyncio.ensure_future(unwrapped(actor.pulse.remote(), name)) for name, actor in actors.items()}
    if pulses:
        await asyncio.wait(pulses.values(), timeout=silence_s)
    found = {}
    for name, pulse in pulses.items():
        if not pulse.done():
            pulse.cancel()
            found[name] = f"it has not answered for {silence_s:g} s"
        elif isinstance(error := pulse.exception(), PlaceLost):
            found[name] = error.reason
        elif error is not None:
            raise error
    return found
