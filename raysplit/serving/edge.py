"""The edge client, which runs the backbone, sends its features once, and receives the answers of all tasks.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982). The latency of an answer is split into edge (backbone,
encoding, decoding), link (both directions, with the emulated link) and server (as reported by the server).
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from torch import Tensor, nn

from raysplit.models.classifier.export import ServingMeta, prepared
from raysplit.seeding import generator
from raysplit.serving.codec import Content, Message, task_mask
from raysplit.serving.compression import Encoding
from raysplit.serving.links import EdgeLink
from raysplit.serving.service import read_answer
from raysplit.serving.transport import (
    SERVER_SECONDS,
    Reply,
    RetryRule,
    ServerUnreachable,
    Transport,
    exchange_with_retries,
)
from raysplit.serving.wire_link import EDGE, SERVER, WireLink

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Latency:
    """The latency of one answer in seconds; `link_s` is all time outside edge and server, failed attempts included."""

    edge_s: float
    link_s: float
    server_s: float

    @property
    def total_s(self) -> float:
        return self.edge_s + self.link_s + self.server_s


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """The answer to one request.

    Attributes:
        logits: logits {task: [B, K_task]}.
        latency: latency of the answer.
        up_bytes: size of the request's HTTP body.
        down_bytes: size of the reply's HTTP body.
        answered_by: ``"server"``, or ``"edge"`` if the local heads answered after a failure.
    """

    logits: Mapping[str, Tensor]
    latency: Latency
    up_bytes: int
    down_bytes: int
    answered_by: str


class EdgeClient:
    """A client that computes features and asks a server for the answers of the heads.

    Args:
        meta: description of the exported model.
        backbone: backbone of the exported model.
        transport: network to the server.
        encoding: encoding of the features.
        retries: number of attempts and waits between them; by default `RetryRule()`.
        link: emulated link, whose transfer times are slept.
        wire: link that encodes, counts and decodes messages; by default one without taps.
        local_heads: heads that answer if the server does not; without them that is an error.
        seed: seed of the emulated losses and of the waits between attempts; it should differ between edges.
        sleep: function that waits for a number of seconds.
        clock: function that returns the time in seconds.

    Example::

        with EdgeClient(meta=meta, backbone=backbone, transport=HttpTransport("http://127.0.0.1:8000")) as client:
            client.check_server()
            answer = client.infer(images)  # uint8 [B, 3, S, S]
    """

    def __init__(
        self,
        *,
        meta: ServingMeta,
        backbone: nn.Module,
        transport: Transport,
        encoding: Encoding = Encoding.FLOAT32,
        retries: RetryRule | None = None,
        link: EdgeLink | None = None,
        wire: WireLink | None = None,
        local_heads: nn.ModuleDict | None = None,
        seed: int = 0,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.meta, self.backbone, self.transport, self.encoding = meta, backbone, transport, encoding
        self.retries, self.link, self.local_heads = retries or RetryRule(), link, local_heads
        self.wire = wire or WireLink()
        self._losses, self._jitter = generator(seed, "emulated link"), generator(seed, "retries")
        self._sleep, self._clock = sleep, clock

    def check_server(self) -> None:
        """Ask the server which model it serves; raise ``ValueError`` if the backbone belongs to another model."""
        reply = self._exchange("GET", "/meta", b"")
        theirs = json.loads(reply.body)
        if theirs.get("weights_sha256") != self.meta.weights_sha256 or tuple(theirs["classes"]) != self.meta.tasks:
            raise ValueError(
                f"the server serves {', '.join(theirs['classes'])} with weights {theirs.get('weights_sha256')!r}, but "
                f"this backbone belongs to {self.meta.weights_sha256!r}; use the same export at both ends"
            )

    def infer(self, images: Tensor, tasks: Iterable[str] | None = None) -> Answer:
        """Return the answers of tasks for images.

        Args:
            images: images uint8 [B, 3, S, S].
            tasks: names of the tasks; None asks for all.

        Raises:
            WireError: for an unknown task.
            RequestRefused: if the server refuses the request.
            ServerUnreachable: if no server answers and there are no local heads.
        """
        asked = self.meta.tasks if tasks is None else tuple(tasks)
        mask = task_mask(asked, self.meta.tasks)
        start = self._clock()
        with torch.inference_mode():
            z = self.backbone(prepared(images, self.meta)).flatten(1)  # [B, Z_b]
        body = self.wire.leaving(EDGE, SERVER, Message(content=Content.FEATURES, tasks=mask, tensor=z), self.encoding)
        sent = self._clock()
        try:
            reply = self._exchange("POST", "/infer", body)
        except ServerUnreachable as error:
            if self.local_heads is None:
                raise
            logger.warning("%s; the local heads answer", error)
            return self._answer_here(z, asked, edge_s=sent - start, waiting_since=sent)
        if self.link is not None:
            self._sleep(self.link.drawn_s(len(body), self._losses) + self.link.drawn_s(len(reply.body), self._losses))
        arrived = self._clock()
        logits = read_answer(reply.body, self.meta, asked, len(images), self.wire)
        server_s = float(reply.headers.get(SERVER_SECONDS, 0.0))
        latency = Latency(
            edge_s=sent - start + self._clock() - arrived, link_s=arrived - sent - server_s, server_s=server_s
        )
        return Answer(
            logits=logits, latency=latency, up_bytes=len(body), down_bytes=len(reply.body), answered_by="server"
        )

    def _exchange(self, method: str, path: str, body: bytes) -> Reply:
        return exchange_with_retries(
            self.transport, method, path, body, rule=self.retries, jitter=self._jitter, sleep=self._sleep
        )

    def _answer_here(self, z: Tensor, asked: Sequence[str], *, edge_s: float, waiting_since: float) -> Answer:
        assert self.local_heads is not None
        failed = self._clock()
        with torch.inference_mode():
            logits = {task: self.local_heads[task](z) for task in self.meta.tasks if task in asked}
        latency = Latency(edge_s=edge_s + self._clock() - failed, link_s=failed - waiting_since, server_s=0.0)
        return Answer(logits=logits, latency=latency, up_bytes=0, down_bytes=0, answered_by="edge")

    def __enter__(self) -> EdgeClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.transport.close()


def latency_percentiles(latencies: Sequence[Latency]) -> dict[str, dict[str, float]]:
    """Return {"edge_s" | "link_s" | "server_s" | "total_s": {"p50": seconds, "p99": seconds}} of the latencies.

    Raises:
        ValueError: without a latency.
    """
    if not latencies:
        raise ValueError("percentiles need at least one latency, got none")
    parts = {name: [getattr(each, name) for each in latencies] for name in ("edge_s", "link_s", "server_s", "total_s")}
    return {
        name: {f"p{percent}": float(np.percentile(seconds, percent)) for percent in (50, 99)}
        for name, seconds in parts.items()
    }
