"""How a message reaches the server and comes back: one exchange, its failures, and trying again.

A request here never changes the server, so one that failed on the way may be sent again.
"""

from __future__ import annotations

import http.client
import json
import logging
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

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
    """One HTTP/1.1 connection, kept open between requests and opened anew after a failure."""

    def __init__(self, server: str, timeout_s: float = 10.0) -> None:
        parts = urllib.parse.urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{server!r} is no server address; give one such as http://127.0.0.1:8000")
        kinds = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        self.server, self._base = server, parts.path.rstrip("/")
        self._connection = kinds[parts.scheme](parts.hostname, parts.port, timeout=timeout_s)

    def exchange(self, method: str, path: str, body: bytes) -> Reply:
        try:
            headers = {"Content-Type": "application/octet-stream"} if body else {}
            self._connection.request(method, self._base + path, body=body or None, headers=headers)
            response = self._connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Reply(status=response.status, headers=names, body=response.read())
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise ServerUnreachable(f"no answer from {self.server}: {error or type(error).__name__}") from error

    def close(self) -> None:
        self._connection.close()


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
    for attempt in range(rule.attempts):
        try:
            reply = transport.exchange(method, path, body)
            if reply.status == 200:
                return reply
            if reply.status not in TRY_AGAIN:
                raise _refused(reply)
            failure = ServerUnreachable(f"the server answered {reply.status} to {method} {path}")
        except ServerUnreachable as error:
            failure = error
        if attempt + 1 < rule.attempts:
            wait_s = rule.wait_s(attempt, float(jitter.random()))
            logger.info("%s; attempt %d of %d in %.3f s", failure, attempt + 2, rule.attempts, wait_s)
            sleep(wait_s)
    raise ServerUnreachable(f"{failure} ({rule.attempts} attempts)") from failure


def _refused(reply: Reply) -> RequestRefused:
    try:
        told = json.loads(reply.body)
        return RequestRefused(reply.status, str(told["reason"]), str(told["message"]))
    except (ValueError, KeyError, TypeError):  # not our server's words: a proxy's page
        return RequestRefused(reply.status, "unexpected", reply.body[:200].decode(errors="replace"))
