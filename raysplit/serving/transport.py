"""The exchange of messages with the server: a request and its reply, the errors, and retries.

Requests never change the server, so a failed request may be sent again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import tenacity

from raysplit.registry import one_line

logger = logging.getLogger(__name__)

SERVER_SECONDS = "x-raysplit-server-seconds"
TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
"""The statuses after which a request is sent again; 500: a replica died during the request, another may answer."""


class ServerFailed(RuntimeError):
    """Base of all errors of a server or of the way to it; the heads at hand can answer instead."""


class ServerUnreachable(ServerFailed, ConnectionError):
    """Error raised when no answer comes: the connection failed or timed out, or the server is overloaded."""


class WrongAnswer(ServerFailed, ValueError):
    """Error raised for a reply that is no answer to the request: another format, too large, damaged, or not finite."""


class RequestRefused(ServerFailed, ValueError):
    """Error raised when the server refuses a request, which it would refuse again.

    Attributes:
        status: HTTP status.
        reason: name of the reason: a `raysplit.serving.codec.Reason`, or another one of the HTTP layer.
    """

    def __init__(self, server: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"{server} refused the request ({status}, {reason}): {message}")
        self.status, self.reason = status, reason


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One HTTP reply; the names in `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport(Protocol):
    """The network as the edge client uses it.

    `exchange` raises `ServerUnreachable` if no reply comes, and `WrongAnswer` for one of more than `max_bytes`.
    """

    @property
    def server(self) -> str: ...

    def exchange(self, method: str, path: str, body: bytes, max_bytes: int) -> Reply: ...

    def close(self) -> None: ...


def shown(text: str, longest: int = 200) -> str:
    """Return text of a server as one line of printable characters, for a message to a user."""
    plain = one_line(" ".join(text[: 4 * longest].split()))
    return plain if len(plain) <= longest else f"{plain[:longest]} ..."


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
    max_bytes: int,
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
        max_bytes: size of the largest answer.
        rule: number of attempts and waits between them.
        jitter: random numbers of the waits; they should differ between edges, so that retries do not coincide.
        sleep: function that waits for a number of seconds.

    Raises:
        ServerUnreachable: if all attempts failed.
        RequestRefused: if the server refuses the request; it is not sent again.
        WrongAnswer: if a reply of status 200 is none; it is not sent again either.
    """
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(ServerUnreachable),
        stop=tenacity.stop_after_attempt(rule.attempts),
        wait=lambda state: rule.wait_s(state.attempt_number - 1, float(jitter.random())),
        sleep=sleep,
        before_sleep=tenacity.before_sleep_log(logger, logging.INFO),
        retry_error_callback=_give_up,
    )
    return retrying(_accepted, transport, method, path, body, max_bytes)


def _accepted(transport: Transport, method: str, path: str, body: bytes, max_bytes: int) -> Reply:
    reply = transport.exchange(method, path, body, max_bytes)
    if reply.status in TRY_AGAIN:
        raise ServerUnreachable(f"{transport.server} answered {reply.status} to {method} {path}")
    if reply.status != 200:
        raise _refused(transport.server, reply)
    return reply


def _give_up(state: tenacity.RetryCallState) -> Reply:
    assert state.outcome is not None
    failure = state.outcome.exception()
    raise ServerUnreachable(f"{failure} ({state.attempt_number} attempts)") from failure


def _refused(server: str, reply: Reply) -> RequestRefused:
    try:
        refusal = json.loads(reply.body)
        return RequestRefused(server, reply.status, shown(str(refusal["reason"])), shown(str(refusal["message"])))
    except (ValueError, KeyError, TypeError, RecursionError):  # not from our server, such as the page of a proxy
        text = shown(reply.body.decode(errors="replace"))
        return RequestRefused(server, reply.status, "unexpected", text or "without a word")
