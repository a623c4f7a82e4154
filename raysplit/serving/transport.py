"""The exchange of messages with the server: one request and its reply, errors, and retries.

Requests never change the server, so a failed request may be sent again.
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
TRY_AGAIN = frozenset({500, 502, 503, 504})  # 500: a replica died during the request, another may answer


class ServerUnreachable(ConnectionError):
    """Error raised when no answer comes: the connection failed or timed out, or the server is overloaded."""


class RequestRefused(ValueError):
    """Error raised when the server refuses a request, which it would refuse again.

    Attributes:
        status: HTTP status.
        reason: name of the reason: a `raysplit.serving.codec.Reason`, or another one of the HTTP layer.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"the server refused the request ({status}, {reason}): {message}")
        self.status, self.reason = status, reason


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One HTTP reply; the names in `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """The network as the edge client uses it; `exchange` raises `ServerUnreachable` if no reply comes."""

    def exchange(self, method: str, path: str, body: bytes) -> Reply: ...

    def close(self) -> None: ...


class HttpTransport:
    """HTTP/1.1 over a pool of connections, which stay open between requests; several threads may use it.

    Args:
        server: address of the server, ``http://host:port``.
        timeout_s: seconds allowed for connecting, for sending and for each wait for the answer.

    Raises:
        ValueError: if ``server`` is not such an address.
    """

    def __init__(self, server: str, timeout_s: float = 10.0) -> None:
        try:
            url = httpx.URL(server)
        except httpx.InvalidURL as error:
            raise ValueError(f"{server!r} is not a server address: {error}") from error
        if url.scheme not in ("http", "https") or not url.host:
            raise ValueError(f"{server!r} is not a server address; give one such as http://127.0.0.1:8000")
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
    """The rule for retries: at most `attempts` requests; retry k waits first_wait_s * 2 ** k times 0.5 to 1."""

    attempts: int = 4
    first_wait_s: float = 0.05

    def wait_s(self, retry: int, drawn: float) -> float:
        """Return the seconds to wait before retry 0, 1, ..., for a random number in 0..1."""
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
    """Send a request, with retries, until a reply has status 200, and return that reply.

    Args:
        transport: network to use.
        method: HTTP method.
        path: path of the request.
        body: body of the request.
        rule: number of attempts and waits between them.
        jitter: random numbers of the waits; they should differ between edges, so that retries do not coincide.
        sleep: function that waits for a number of seconds.

    Raises:
        ServerUnreachable: if all attempts failed.
        RequestRefused: if the server refuses the request; it is not sent again.
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
        refusal = json.loads(reply.body)
        return RequestRefused(reply.status, str(refusal["reason"]), str(refusal["message"]))
    except (ValueError, KeyError, TypeError):  # not from our server, for example the page of a proxy
        return RequestRefused(reply.status, "unexpected", reply.body[:200].decode(errors="replace"))
