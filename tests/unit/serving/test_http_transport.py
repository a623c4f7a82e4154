"""The one HTTP connection between an edge and its server, over loopback."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from raysplit.serving.http_transport import HttpTransport
from raysplit.serving.transport import (
    RetryRule,
    ServerUnreachable,
    exchange_with_retries,
)

# --- one real connection -----------------------------------------------------------------------------------------


class _Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    clients: list[int] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.clients.append(self.client_address[1])
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Path", self.path)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = body == b"last"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[str]:
    _Echo.clients.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/base/"
        server.shutdown()
        thread.join()


def test_the_connection_stays_open_and_is_opened_anew_when_the_server_closes_it(echo: str) -> None:
    transport = HttpTransport(echo)
    reply = transport.exchange("POST", "/infer", b"body", 5)
    assert (reply.status, reply.body, reply.headers["x-path"]) == (200, b"body", "/base/infer")
    transport.exchange("POST", "/infer", b"last", 5)
    rule, jitter = RetryRule(first_wait_s=0.0), np.random.default_rng(0)
    again = exchange_with_retries(
        transport, "POST", "/infer", b"again", 5, rule=rule, jitter=jitter, sleep=lambda seconds: None
    )
    assert again.body == b"again"
    transport.close()
    first, second, *_, last = _Echo.clients
    assert first == second != last


def test_a_server_that_says_nothing_is_given_up_after_the_time() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        with pytest.raises(ServerUnreachable, match=f"no answer from http://127.0.0.1:{port}: .*timed out"):
            HttpTransport(f"http://127.0.0.1:{port}", timeout_s=0.05).exchange("POST", "/infer", b"x", 5)


def test_no_server_is_a_named_failure() -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Echo) as closed:
        port = closed.server_address[1]
    with pytest.raises(ServerUnreachable, match=f"no answer from http://127.0.0.1:{port}"):
        HttpTransport(f"http://127.0.0.1:{port}").exchange("POST", "/infer", b"x", 5)
    for wrong in ("localhost:8000", "http://", "http://127.0.0.1:port", "http://127.0.0.1:99999"):
        with pytest.raises(ValueError, match=f"'{wrong}' is not a server address"):
            HttpTransport(wrong)
    with pytest.raises(ValueError, match=r"at '127\.0\.0\.1' must have no user") as refused:
        HttpTransport("http://me:secret@127.0.0.1:8000")
    assert "secret" not in str(refused.value)
    with pytest.raises(ValueError, match="above 0 s and finite, got inf"):
        HttpTransport("http://127.0.0.1:8000", timeout_s=float("inf"))
