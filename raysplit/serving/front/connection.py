"""One connection: uvicorn's HTTP/1.1 on h11, with a time limit for each thing that a client can make it wait for.

A limit begins when a connection enters a phase; further bytes do not renew it, so a byte now and then does not keep a
connection open. After the time the connection is aborted: nothing more is sent, and what the client has not fetched is
dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from raysplit.serving.front.limits import FrontLimits

_GRACE_S = 1.0
"""The seconds that a refusal of the routes has, which keep the same limits, before the connection is aborted."""


class Phase(StrEnum):
    """The state of a connection, by what it waits for."""

    GREETING = "greeting"
    HEADER = "header"
    BODY = "body"
    ANSWER = "answer"
    IDLE = "idle"
    CLOSING = "closing"


class Connection(H11Protocol):
    """One connection.

    Args:
        config: configuration of uvicorn, loaded.
        server_state: state of uvicorn's server.
        limits: time limits.
        lost: function to call when the connection is closed.

    Attributes:
        phase: what the connection waits for.
        since: time of the event loop at which the phase began.
        greeting: task that accepts the connection, for as long as the TLS handshake lasts.
    """

    def __init__(
        self,
        *,
        config: uvicorn.Config,
        server_state: ServerState,
        limits: FrontLimits,
        lost: Callable[[Connection], None],
    ) -> None:
        super().__init__(config=config, server_state=server_state, app_state={})
        self.phase, self.since = Phase.GREETING, self.loop.time()
        self.greeting: asyncio.Task[None] | None = None
        self._lost = lost
        self._allowed_s = {
            Phase.HEADER: limits.header_s,
            Phase.BODY: limits.body_s + _GRACE_S,
            Phase.ANSWER: limits.answer_s + _GRACE_S,
            Phase.IDLE: limits.idle_s,
            Phase.CLOSING: limits.header_s,
        }
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_answered(self) -> bool:
        """Whether a whole request has come, and its answer is due."""
        return self.phase is Phase.ANSWER

    def drop(self) -> None:
        """Close the connection at once."""
        if self.transport is not None:
            self.transport.abort()
        elif self.greeting is not None:
            self.greeting.cancel()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._enter(Phase.HEADER)

    def data_received(self, data: bytes) -> None:
        if self.phase is Phase.IDLE:
            self._enter(Phase.HEADER)
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._follow()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)
        self._lost(self)

    def _follow(self) -> None:
        """Enter the phase that follows from what has been received and sent."""
        if self.transport.is_closing():
            self._enter(Phase.CLOSING)
        elif self.conn.their_state is h11.SEND_BODY:
            self._enter(Phase.BODY)
        elif self.conn.their_state is h11.IDLE:
            if self.phase is not Phase.HEADER:
                self._enter(Phase.IDLE)
        else:
            self._enter(Phase.ANSWER)

    def _enter(self, phase: Phase) -> None:
        if phase is self.phase:
            return
        if self._timer is not None:
            self._timer.cancel()
        self.phase, self.since = phase, self.loop.time()
        self._timer = self.loop.call_later(self._allowed_s[phase], self.transport.abort)
