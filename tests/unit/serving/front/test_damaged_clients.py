"""Requests that no client of ours sends: each gets a 4xx or loses its connection, and the server goes on."""

from __future__ import annotations

import asyncio
import json
import struct
import zlib
from collections.abc import Iterator, Mapping

import pytest
import torch
from slow_clients import FEATURES, Client, HeadsHere, front, message, request
from torch import Tensor

from raysplit.serving.codec import Content, Message, encode
from raysplit.serving.compression import Encoding
from raysplit.serving.front.bodies import NoRoom
from raysplit.serving.front.listener import peer_of
from raysplit.serving.front.routes import HeadsUnavailable
from raysplit.serving.service import Question

PATHS = ("/infer", "/meta", "/health", "/", "/elsewhere")


@pytest.fixture(scope="module")
def heads() -> HeadsHere:
    return HeadsHere()


@pytest.fixture(scope="module")
def port(heads: HeadsHere) -> Iterator[int]:
    with front(heads, header_s=5.0, body_s=5.0) as opened:
        yield opened.port


def check_unharmed(port: int) -> None:
    client = Client(port).send(request(message(2)))
    assert client.answer()[0] == 200
    client.close()


def with_values(*values: float, encoding: Encoding = Encoding.FLOAT32) -> bytes:
    features = torch.full((1, FEATURES), 0.5)
    features[0, : len(values)] = torch.tensor(values)
    return encode(Message(content=Content.FEATURES, tasks=0b11, tensor=features), encoding)


@pytest.mark.parametrize("encoding", [Encoding.FLOAT32, Encoding.FLOAT16, Encoding.ZLIB])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_features_that_are_not_finite_are_refused(port: int, value: float, encoding: Encoding) -> None:
    """They were answered with NaN logits and status 200."""
    if encoding is Encoding.FLOAT16 and abs(value) == float("inf"):
        body = bytearray(with_values(1.0, encoding=encoding))
        body[44:46] = struct.pack("<e", value)  # our encoder refuses it, another one may not
        body[40:44] = struct.pack("<I", zlib.crc32(body[44:], zlib.crc32(body[:40])))
        sent = bytes(body)
    else:
        sent = with_values(value, encoding=encoding)
    client = Client(port).send(request(sent))
    status, told = client.answer()
    assert (status, json.loads(told)["reason"]) == (422, "not-finite")
    assert "the features must be finite, got 1 of 2048" in json.loads(told)["message"]


def test_features_whose_answer_is_not_finite_are_refused(port: int) -> None:
    """Finite features that overflow in a head; other requests of the same pass are answered."""
    status, told = Client(port).send(request(with_values(*[3e38] * FEATURES))).answer()
    assert (status, json.loads(told)["reason"]) == (422, "not-finite")
    assert "the logits of these features" in json.loads(told)["message"]
    check_unharmed(port)


@pytest.mark.parametrize(("rows", "status"), [(8, 200), (9, 413), (42, 413), (43, 413)])
def test_rows_are_what_is_limited(port: int, rows: int, status: int) -> None:
    """``--max-batch 8`` took 42 rows of features: the limit was that of the bytes of eight pictures."""
    for encoding in (Encoding.FLOAT32, Encoding.INT8, Encoding.ZLIB):
        body = encode(Message(content=Content.FEATURES, tasks=1, tensor=torch.ones(rows, FEATURES)), encoding)
        got, told = Client(port).send(request(body)).answer()
        assert got == status
        if encoding is Encoding.INT8 and status == 413:
            assert f"the message has {rows} rows, at most 8 are accepted" in json.loads(told)["message"]


@pytest.mark.parametrize("path", PATHS)
def test_a_websocket_handshake_is_refused(port: int, path: str) -> None:
    """It ended in a 500, on every path."""
    client = Client(port).send(
        f"GET {path} HTTP/1.1\r\nHost: heads\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    assert client.refusal() == (400, "no-websocket")
    check_unharmed(port)


GET, POST = b"GET /meta HTTP/1.1\r\nHost: h\r\n", b"POST /infer HTTP/1.1\r\nHost: h\r\n"
DAMAGED = {
    "words": b"hello there\r\n\r\n",
    "zeros": bytes(1000),
    "tls-hello": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "http-2-preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http-0.9": b"GET /meta\r\n\r\n",
    "no-host": b"GET /meta HTTP/1.1\r\n\r\n",
    "a-long-line": b"GET /" + b"m" * 100_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    "a-long-header": GET + b"X: " + b"m" * 1_000_000 + b"\r\n\r\n",
    "many-headers": GET + b"" + b"X: y\r\n" * 200_000 + b"\r\n",
    "control-characters": b"GET /me\x00ta HTTP/1.1\r\nHost: h\r\nX: \x00\r\n\r\n",
    "folded-header": b"GET /elsewhere HTTP/1.1\r\nHost: h\r\n X: y\r\n\r\n",
    "length-negative": POST + b"Content-Length: -5\r\n\r\n",
    "length-words": POST + b"Content-Length: five\r\n\r\n",
    "length-huge": POST + b"Content-Length: 18446744073709551616\r\n\r\n",
    "length-two": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "length-and-chunks": POST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "unknown-coding": POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "chunks-damaged": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "chunk-negative": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "chunk-extension": POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 100_000 + b"\r\n",
    "gzip-body": request(message(), "Content-Encoding: gzip", line="POST /infer")[:-1000] + bytes(1000),
    "connect": b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\n\r\n",
    "absolute": b"GET http://elsewhere/secret HTTP/1.1\r\nHost: elsewhere\r\n\r\n",
    "dots": b"GET /../../etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n",
    "percent": b"GET /%00%ff%2e%2e HTTP/1.1\r\nHost: h\r\n\r\n",
    "options": b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    "trace": b"TRACE /meta HTTP/1.1\r\nHost: h\r\n\r\n",
    "head": b"HEAD /infer HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "many-empty-bodies": request(b"") * 50,
    "expecting": POST + b"Content-Length: 999999999\r\nExpect: 100-continue\r\n\r\n",
}  # fmt: skip
WAIT = {"chunk-extension"}
"""What is not seen to be damaged: it ends with the time for a body."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name not in WAIT else pytest.mark.slow) for name in DAMAGED]
)
def test_a_damaged_request_gets_a_4xx_or_is_closed(port: int, name: str) -> None:
    client = Client(port)
    try:
        client.send(DAMAGED[name])
        status, _ = client.answer()
    except ConnectionError:  # the server closed before all was sent
        status = 0
    assert status == 0 or 400 <= status < 500
    client.close()
    check_unharmed(port)


def test_a_body_in_pieces_is_read(port: int) -> None:
    """Proxies chunk, ask before they send, and send request after request without waiting."""
    body = message()
    chunked = b"POST /infer HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in body) + b"0\r\n\r\n"
    assert Client(port).send(chunked).answer()[0] == 200
    asks = Client(port).send(request(body, "Expect: 100-continue")[: -len(body)])
    assert asks.answer()[0] == 100
    assert asks.send(body).answer()[0] == 200
    follows = Client(port).send(request(body) * 3 + request(b"") + request(body))
    assert [follows.answer()[0] for _ in range(5)] == [200, 200, 200, 400, 200]


@pytest.mark.parametrize(
    ("failure", "status", "reason"),
    [(HeadsUnavailable("a replica died"), 503, "unavailable"), (NoRoom("too many"), 503, "overloaded"),
     (RuntimeError("a bug"), 500, "failed")],
)  # fmt: skip
def test_a_failure_of_the_heads_has_a_reason(failure: Exception, status: int, reason: str) -> None:
    failing = HeadsHere()
    failing.failure = failure
    with front(failing) as opened:
        assert Client(opened.port).send(request(message())).refusal() == (status, reason)
        assert Client(opened.port).send(request(b"", line="GET /health")).refusal() == (status, reason)
        failing.failure = None
        check_unharmed(opened.port)


class SilentHeads(HeadsHere):
    """Heads that never answer."""

    async def answer(self, question: Question) -> Mapping[str, Tensor]:
        await asyncio.Event().wait()
        raise AssertionError


def test_heads_that_do_not_answer_are_not_waited_for() -> None:
    with front(SilentHeads(), answer_s=0.1) as opened:
        assert Client(opened.port).send(request(message())).refusal() == (504, "no-answer")


@pytest.mark.parametrize(
    ("address", "peer"),
    [("10.0.0.7", "10.0.0.7"), ("::ffff:10.0.0.7", "10.0.0.7"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
     ("2001:db8:1:2::9", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64")],
)  # fmt: skip
def test_an_ipv6_network_is_one_peer(address: str, peer: str) -> None:
    assert peer_of(address) == peer
