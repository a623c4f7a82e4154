"""The bodies of requests: read whole before a head is asked, within a time, and within a memory for all of them.

While a body is being read it occupies no replica and no place in a queue: whoever sends half a body and waits keeps
nobody else from an answer. Where the memory for all bodies is used up, the body that has been coming for the longest
time is given up, and a new one is refused only if all others have come.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.requests import Request

from raysplit.serving.codec import Limits, Reason, WireError, check_size


class SlowBody(Exception):
    """Error raised for a body that did not come in time, or that had to make room for others."""


class NoRoom(Exception):
    """Error raised if there is no room for a request now."""


@dataclass(eq=False)
class _Held:
    """A body that is being read; `coming` is None once it has come, or has been given up."""

    coming: asyncio.Timeout | None
    since: float = field(default_factory=time.monotonic)
    num_bytes: int = 0

    def give_up(self) -> None:
        """End the reading of the body as if its time were over."""
        until, self.coming, self.num_bytes = self.coming, None, 0
        if until is not None and not until.expired():
            until.reschedule(asyncio.get_running_loop().time())


class Bodies:
    """All bodies that the server holds.

    Args:
        limits: largest message.
        body_s: seconds for which a body may come.
        held_bytes: memory for all bodies; the largest message always fits.
    """

    def __init__(self, limits: Limits, *, body_s: float, held_bytes: int) -> None:
        self.limits, self.body_s = limits, body_s
        self.held_bytes = max(held_bytes, limits.max_body_bytes)
        self._held: set[_Held] = set()

    @asynccontextmanager
    async def held(self, request: Request) -> AsyncIterator[bytes]:
        """Read the body of a request, and count it until the block ends.

        Raises:
            WireError: for a body that is too large, by its announced length or as soon as it is.
            SlowBody: if it does not come in time, or has to make room.
            NoRoom: if there is no memory for it now.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal():
            check_size(int(announced), self.limits)
        held = _Held(coming=asyncio.timeout(self.body_s))
        self._held.add(held)
        try:
            body = await self._read(request, held)
            held.coming = None
            yield body
        finally:
            self._held.discard(held)

    async def _read(self, request: Request, held: _Held) -> bytes:
        assert held.coming is not None
        body = bytearray()  # not a list of parts: thousands of one byte each would take fifty times their size
        try:
            async with held.coming:
                async for part in request.stream():
                    body += part
                    if len(body) > self.limits.max_body_bytes:
                        raise WireError(Reason.OVERSIZED, f"the body has more than {self.limits.max_body_bytes} bytes")
                    held.num_bytes = len(body)
                    self._make_room(held)
        except TimeoutError:
            waited = time.monotonic() - held.since
            raise SlowBody(f"the body had not come after {waited:.1f} s; {len(body)} bytes were read") from None
        return bytes(body)

    def _make_room(self, newest: _Held) -> None:
        while sum(each.num_bytes for each in self._held) > self.held_bytes:
            coming = [each for each in self._held if each.coming is not None and each.num_bytes]
            slowest = min(coming, key=lambda each: each.since, default=newest)
            if slowest is newest:
                raise NoRoom("the memory for requests is used up; try again")
            slowest.give_up()
