"""A front with heads in this process, and clients that are slow or damaged, for tests of the server's side."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from raysplit.models.classifier.export import ServingMeta, served_features
from raysplit.models.classifier.heads import build_classifier
from raysplit.serving.codec import Content, Message, encode
from raysplit.serving.front.access import Access
from raysplit.serving.front.limits import FrontLimits
from raysplit.serving.front.listener import Front
from raysplit.serving.front.routes import application
from raysplit.serving.service import Question, answer_together

META = ServingMeta(backbone="small", image_size=64, classes={"a0": ("x", "y"), "a1": ("x", "y", "z")})
FEATURES = served_features(META)


class HeadsHere:
    """Heads that answer in this process; `failure` is raised instead, if there is one."""

    def __init__(self) -> None:
        self.model = build_classifier("small", {"a0": 2, "a1": 3}, image_size=64, seed=1).eval()
        self.failure: Exception | None = None

    async def ready(self) -> None:
        if self.failure is not None:
            raise self.failure

    async def answer(self, question: Question) -> Mapping[str, Tensor]:
        await self.ready()
        z = question.tensor.numpy()
        return {task: torch.tensor(answer_together(self.model.heads[task], [z])[0]) for task in question.tasks}


@contextmanager
def front(
    heads: HeadsHere, access: Access | None = None, *, meta: ServingMeta = META, max_batch: int = 8, **limits: float
) -> Iterator[Front]:
    """A front on a free port of loopback; times are longer than a test lasts unless given."""
    long = {"header_s": 60.0, "body_s": 60.0, "idle_s": 60.0, "answer_s": 60.0}
    bounds = FrontLimits(**{**long, **limits})  # type: ignore[arg-type]
    rules = access or Access()
    app = application(meta, heads, max_batch=max_batch, limits=bounds, access=rules)
    opened = Front(app, "127.0.0.1", 0, limits=bounds, access=rules)
    try:
        yield opened
    finally:
        opened.stop()


def message(rows: int = 1, value: float = 0.5) -> bytes:
    """A message with features for all tasks."""
    return encode(Message(content=Content.FEATURES, tasks=0b11, tensor=torch.full((rows, FEATURES), value)))


def request(body: bytes, *headers: str, line: str = "POST /infer") -> bytes:
    """A whole HTTP request."""
    lines = [f"{line} HTTP/1.1", "Host: heads", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Client:
    """One connection, from any address of loopback."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))
        self.stream = self.sock.makefile("rb")

    def send(self, sent: bytes) -> Client:
        self.sock.sendall(sent)
        return self

    def answer(self) -> tuple[int, bytes]:
        """The status and body of the next reply; status 0 if the connection was closed instead."""
        try:
            head = b"".join(iter(self.stream.readline, b"\r\n"))
            if not head:
                return 0, b""
            sizes = [int(line[15:]) for line in head.lower().splitlines() if line.startswith(b"content-length:")]
            return int(head.split()[1]), self.stream.read(sizes[0]) if sizes else b""
        except ConnectionError:
            return 0, b""

    def refusal(self) -> tuple[int, Any]:
        """The status and reason of the next reply."""
        status, body = self.answer()
        return status, json.loads(body)["reason"] if body.startswith(b"{") else body

    def until_closed(self) -> bytes:
        """Everything that comes before the server closes the connection."""
        try:
            return self.stream.read()
        except ConnectionError:
            return b""

    def close(self) -> None:
        self.stream.close()
        self.sock.close()
