"""Servers that do what a server must not do, on ephemeral ports of loopback, for tests of the edge."""

from __future__ import annotations

import gzip
import json
import re
import socket
import struct
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor

from raysplit.models.classifier.export import ServingMeta
from raysplit.serving.codec import Content, Message, encode, task_mask
from raysplit.serving.compression import Encoding

MAX_SENT = 16 * 2**20
"""The bytes that a server can get rid of before the edge hangs up: what the buffers of both ends hold, and some."""


class BadServer:
    """A server that answers ``/meta`` as it should, and one route as `behave` does.

    Attributes:
        url: address of the server.
        num_sent: bytes that `endless` has sent.
        asked: paths that were asked for, in order.
    """

    def __init__(self, meta: bytes, route: str, behave: Behave) -> None:
        self.meta, self.route, self.behave = meta, route, behave
        self.num_sent, self.asked = 0, list[str]()
        self.over = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept, daemon=True)]

    def __enter__(self) -> BadServer:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while not self.over.is_set():
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(10)
            stream = connection.makefile("rb")
            while True:
                head = b"".join(iter(stream.readline, b"\r\n"))
                if not head:
                    return
                length = re.search(rb"(?i)content-length: (\d+)", head)
                stream.read(int(length[1]) if length else 0)
                self.asked.append(head.split()[1].decode())
                if self.asked[-1] == self.route:
                    self.behave(self, connection)
                    return
                connection.sendall(reply(self.meta))

    def endless(self, connection: socket.socket, piece: bytes) -> None:
        """Send a piece again and again, until the other end hangs up or 4 GiB are sent."""
        while self.num_sent < 2**32 and not self.over.is_set():
            self.num_sent += connection.send(piece)

    def dripped(self, connection: socket.socket, sent: bytes) -> None:
        """Send a byte every hundredth of a second."""
        for k in range(len(sent)):
            if self.over.wait(0.01):
                return
            connection.sendall(sent[k : k + 1])

    def silent(self) -> None:
        """Say nothing until the test is over."""
        self.over.wait(10)


Behave = Callable[[BadServer, socket.socket], None]


def reply(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A whole HTTP reply."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def logits(values: Tensor, tasks: int, encoding: Encoding = Encoding.FLOAT32) -> bytes:
    """A message with logits."""
    return encode(Message(content=Content.LOGITS, tasks=tasks, tensor=values), encoding)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A bad server.

    Attributes:
        route: route at which it misbehaves.
        behave: what it does there.
        reason: pattern of what the edge says.
        timeout_s: time that the edge allows; short where it must run out.
    """

    route: str
    behave: Behave
    reason: str
    timeout_s: float = 30.0


def says(*sent: bytes) -> Behave:
    """Send this and hang up."""

    def behave(server: BadServer, connection: socket.socket) -> None:
        for each in sent:
            connection.sendall(each)

    return behave


def begins(head: bytes, then: Callable[[BadServer, socket.socket], None]) -> Behave:
    """Send this, then go on."""

    def behave(server: BadServer, connection: socket.socket) -> None:
        connection.sendall(head)
        then(server, connection)

    return behave


def cases(meta: ServingMeta) -> dict[str, Case]:
    """The bad servers by name, for one picture and all tasks of a model."""
    width, mask = sum(map(len, meta.classes.values())), task_mask(meta.tasks, meta.tasks)
    good = logits(torch.zeros(1, width), mask)
    described = meta.model_dump()
    zeros = torch.zeros(1, width)
    chunk = b"10000\r\n" + bytes(2**16) + b"\r\n"
    head = b"HTTP/1.1 200 OK\r\n"
    flipped = bytearray(good)
    flipped[-1] ^= 1
    inflating = bytearray(logits(zeros, mask, Encoding.ZLIB)[:44]) + zlib.compress(bytes(2**26))
    inflating[36:40] = struct.pack("<I", len(inflating) - 44)
    inflating[40:44] = struct.pack("<I", zlib.crc32(inflating[44:], zlib.crc32(inflating[:40])))
    page = b"<html><body>Welcome to the guest network</body></html>"

    def told(body: bytes, reason: str, *headers: str, status: str = "200 OK") -> Case:
        return Case(route="/infer", behave=says(reply(body, *headers, status=status)), reason=reason)

    def describes(body: bytes, reason: str) -> Case:
        return Case(route="/meta", behave=says(reply(body)), reason=reason)

    def waits(behave: Behave, route: str = "/infer") -> Case:
        return Case(route=route, behave=behave, reason="timed out, no whole reply within 0.3 s", timeout_s=0.3)

    def floods(begin: bytes, piece: bytes, reason: str, route: str = "/infer") -> Case:
        return Case(route=route, behave=begins(begin, lambda server, to: server.endless(to, piece)), reason=reason)

    nothing = "does not describe a served model"
    return {
        # what it serves
        "meta-list": describes(b"[]", f"{nothing}: the whole reply: Input should be an object"),
        "meta-null": describes(b"null", nothing),
        "meta-empty": describes(b"", f"{nothing}: the whole reply: Invalid JSON"),
        "meta-page": describes(page, f"{nothing}: the whole reply: Invalid JSON"),
        "meta-bytes": describes(b"\xff\x00" * 50, nothing),
        "meta-without-classes": describes(
            json.dumps({key: value for key, value in described.items() if key != "classes"}).encode(),
            f"{nothing}: classes: Field required",
        ),
        "meta-classes-5": describes(json.dumps(described | {"classes": 5}).encode(), f"{nothing}: classes"),
        "meta-deep": describes(b"[" * 100_000, nothing),
        "meta-other-weights": describes(
            json.dumps(described | {"weights_sha256": "0" * 64}).encode(), "use the same export at both ends"
        ),
        "meta-other-tasks": describes(
            json.dumps(described | {"classes": {"\x1b[2Jhair": ["a"]}}).encode(), r"serves \\x1b\[2Jhair with weights"
        ),
        "meta-endless": floods(head + b"\r\n", b" " * 2**16, "more than the 1048576 bytes", "/meta"),
        "meta-silent": waits(lambda server, _: server.silent(), "/meta"),
        # no answer
        "silent": waits(lambda server, _: server.silent()),
        "hangs-up": Case(route="/infer", behave=says(b""), reason="no answer from .*disconnected"),
        "half-a-header": waits(begins(head, lambda server, _: server.silent())),
        "half-a-body": waits(begins(reply(good)[:-5], lambda server, _: server.silent())),
        "cut-body": Case(route="/infer", behave=says(reply(good)[:-5]), reason="no answer from .*without sending"),
        "dripped-header": waits(lambda server, to: server.dripped(to, reply(good))),
        "dripped-body": waits(
            begins(head + b"\r\n", lambda server, to: server.dripped(to, bytes(1000)))
        ),
        "always-continue": waits(lambda server, to: server.endless(to, b"HTTP/1.1 100 Continue\r\n\r\n" * 10)),
        "error-500": told(page, "answered 500 to POST /infer", status="500 Internal Server Error"),
        "error-503": told(b"", "answered 503 to POST /infer", status="503 Service Unavailable"),
        # another reply
        "page": told(page, r"no answer \(wrong-magic\)"),
        "empty": told(b"", r"no answer \(truncated\)"),
        "status-204": Case(
            route="/infer",
            behave=says(b"HTTP/1.1 204 No Content\r\n\r\n"),
            reason=r"refused the request \(204, unexpected\): without a word",
        ),
        "status-206": told(good, r"refused the request \(206", status="206 Partial Content"),
        "redirect": told(b"", r"\(302, unexpected\)", "Location: http://127.0.0.1:1/infer", status="302 Found"),
        "proxy-400": told(page, r"\(400, unexpected\): <html><body>Welcome", status="400 Bad Request"),
        "refusal-with-escapes": told(
            json.dumps({"reason": "\x1b]0;title\x07", "message": "\u202egnp.exe"}).encode(),
            r"\(422, \\x1b\]0;title\\x07\): \\u202egnp\.exe",
            status="422 Unprocessable Content",
        ),
        "endless-403": floods(
            b"HTTP/1.1 403 Forbidden\r\n\r\n", bytes(2**16), r"refused the request \(403, unexpected\)"
        ),
        "not-http": Case(route="/infer", behave=says(b"220 mail ESMTP\r\n"), reason="no answer from .*disconnected"),
        # too much
        "announces-4-gib": floods(
            head + b"Content-Length: 4294967296\r\n\r\n", bytes(2**16), "announces 4294967296 bytes"
        ),
        "endless-body": floods(head + b"\r\n", bytes(2**16), f"sends more than the {len(good)} bytes"),
        "endless-chunks": floods(
            head + b"Transfer-Encoding: chunked\r\n\r\n", chunk, f"sends more than the {len(good)} bytes"
        ),
        "endless-header": floods(head, b"X-More: " + b"m" * 1000 + b"\r\n", "no answer from"),
        "gzip-bomb": told(
            gzip.compress(bytes(2**24)), r"encoded \(gzip\)", "Content-Encoding: gzip"
        ),
        "inflating-message": told(bytes(inflating), "announces"),
        # damaged or no numbers
        "flipped-bit": told(bytes(flipped), r"no answer \(wrong-checksum\)"),
        "nan": told(logits(zeros / 0, mask), r"no answer \(not-finite\)"),
        "infinite": told(logits((zeros + 1) / 0, mask), r"no answer \(not-finite\): the logits must be finite"),
        "other-tasks": told(logits(zeros, 1), r"no answer \(wrong-content\)"),
        "fewer-columns": told(logits(zeros[:, 1:], mask), r"no answer \(wrong-shape\)"),
        "seconds-abc": told(good, "says that it took 'abc' seconds", "X-Raysplit-Server-Seconds: abc"),
        "seconds-nan": told(good, "says that it took 'nan' seconds", "X-Raysplit-Server-Seconds: nan"),
    }  # fmt: skip
