"""How a message reaches the server and comes back: one exchange, its failures, and trying again.

A request here never changes the server, so one that failed on the way may be sent again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import httpx
import numpy as np
import tenacity

logger = logging.getLogger(__name__)

SERVER_SECONDS = "x-raysplit-server-seconds"
TRY_AGAIN = frozenset({500, 502, 503, 504})  # 500: a replica died at work, another may live


class ServerUnreachable(ConnectionError):
    """No answer came: the connection failed, time ran out, or the server said that it cannot answer now."""


class RequestRefused(ValueError):
    """The server refused this very request: sending it again would not help."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"the server refused the request ({status}, {reason}): {message}")
        self.status, self.reason = status, reason


@dataclass(frozen=True, kw_only=True)
class Reply:
    """`headers` with names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """The seam between the edge client and the network. Raises ServerUnreachable."""

    def exchange(self, method: str, path: str, body: bytes) -> Reply: ...

    def close(self) -> None: ...


class HttpTransport:
    """HTTP/1.1 over a pool of connections, kept open between requests and opened anew where one was closed.

    `timeout_s` holds for connecting, sending, and each wait for the answer. May be used by several threads.
    """

    def __init__(self, server: str, timeout_s: float = 10.0) -> None:
        try:
            url = httpx.URL(server)
        except httpx.InvalidURL as error:
            raise ValueError(f"{server!r} is no server address: {error}") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"{server!r} is no server address; give one such as http://127.0.0.1:8000")
        self.server = server
        self._client = httpx.Client(base_url=url, timeout=timeout_s)

    def exchange(self, method: str, path: str, body: bytes) -> Reply:
        headers = {"content-type": "application/octet-stream"} if body else {}
        try:
            response = self._client.request(method, path, content=body or None, headers=headers)
        except httpx.TransportError as error:
            raise ServerUnreachable(f"no answer from {self.server}: {error or type(error).__name__}") from error
        return Reply(status=response.status_code, headers=dict(response.headers), body=response.content)

    def close(self) -> None:
        self._client.close()


@dataclass(frozen=True, kw_only=True)
class RetryRule:
    """At most `attempts` tries; before the k-th retry a wait drawn from half to all of first_wait_s * 2 ** k."""

    attempts: int = 4
    first_wait_s: float = 0.05

    def wait_s(self, retry: int, drawn: float) -> float:
        """Seconds before retry 0, 1, ..., with `drawn` in 0..1."""
        return self.first_wait_s * 2.0**retry * (0.5 + 0.5 * drawn)


def exchange_with_retries(
    transport: Transport,
    method: str,
    path: str,
    body: bytes,
    *,
    rule: RetryRule,
    jitter: np.random.Generator,
    sleep: Callable[[float], None],
) -> Reply:
    """A reply with status 200. Raises ServerUnreachable when all attempts failed, RequestRefused at once.

    `jitter` should differ from edge to edge, or they all come back in step.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(ServerUnreachable),
        stop=tenacity.stop_after_attempt(rule.attempts),
        wait=lambda state: rule.wait_s(state.attempt_number - 1, float(jitter.random())),
        sleep=sleep,
        before_sleep=tenacity.before_sleep_log(logger, logging.INFO),
        retry_error_callback=_give_up,
    )
    return retrying(_accepted, transport, method, path, body)


def _accepted(transport: Transport, method: str, path: str, body: bytes) -> Reply:
    reply = transport.exchange(method, path, body)
    if reply.status in TRY_AGAIN:
        raise ServerUnreachable(f"the server answered {reply.status} to {method} {path}")
    if reply.status != 200:
        raise _refused(reply)
    return reply


def _give_up(state: tenacity.RetryCallState) -> Reply:
    assert state.outcome is not None
    failure = state.outcome.exception()
    raise ServerUnreachable(f"{failure} ({state.attempt_number} attempts)") from failure


def _refused(reply: Reply) -> RequestRefused:
    try:
        told = json.loads(reply.body)
        return RequestRefused(reply.status, str(told["reason"]), str(told["message"]))
    except (ValueError, KeyError, TypeError):  # not our server's words: a proxy's page
        return RequestRefused(reply.status, "unexpected", reply.body[:200].decode(errors="replace"))
