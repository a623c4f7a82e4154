"""The edge client, which runs the backbone, sends its features once, and receives the answers of all tasks.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982). The latency of an answer is split into edge (backbone,
encoding, decoding), link (both directions, with the emulated link) and server (as reported by the server).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from raysplit.models.classifier.export import ServingMeta, prepared
from raysplit.seeding import generator
from raysplit.serving.codec import Content, Message, WireError, task_mask
from raysplit.serving.compression import Encoding
from raysplit.serving.links import PERCENTS, EdgeLink
from raysplit.serving.service import answer_limits, read_answer
from raysplit.serving.transport import (
    SERVER_SECONDS,
    Reply,
    RetryRule,
    ServerFailed,
    Transport,
    WrongAnswer,
    exchange_with_retries,
    shown,
)
from raysplit.serving.wire_link import EDGE, SERVER, WireLink

logger = logging.getLogger(__name__)

MAX_META_BYTES = 2**20
"""The largest description of a served model that is read."""


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
        fallback_reason: why the local heads answered; None for an answer of the server.
    """

    logits: Mapping[str, Tensor]
    latency: Latency
    up_bytes: int
    down_bytes: int
    answered_by: str
    fallback_reason: str | None = None


class EdgeClient:
    """A client that computes features and asks a server for the answers of the heads.

    Args:
        meta: description of the exported model.
        backbone: backbone of the exported model.
        transport: network to the server.
        encoding: encoding of the features.
        retries: number of attempts and waits between them; by default `RetryRule()`.
        link: emulated link, whose transfer times are slept; its trace begins with the first request.
        wire: link that encodes, counts and decodes messages; by default one without taps.
        local_heads: heads that answer if the server does not, or sends what is no answer; without them that is an
            error.
        seed: seed of the emulated losses and jitter, and of the waits between attempts; it should differ between edges.
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
        self._link_draws, self._jitter = generator(seed, "emulated link"), generator(seed, "retries")
        self._begun: float | None = None
        self._sleep, self._clock = sleep, clock

    def check_server(self) -> None:
        """Ask the server which model it serves.

        Raises:
            WrongAnswer: if the backbone belongs to another model, or the reply describes none.
            RequestRefused: if the server refuses the request.
            ServerUnreachable: if no server answers.
        """
        reply = self._exchange("GET", "/meta", b"", MAX_META_BYTES)
        try:
            theirs = ServingMeta.model_validate_json(reply.body)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the whole reply"
            raise WrongAnswer(
                f"{self.transport.server} does not describe a served model: {shown(place)}: {shown(first['msg'])}"
            ) from error
        if theirs.weights_sha256 != self.meta.weights_sha256 or theirs.tasks != self.meta.tasks:
            raise WrongAnswer(
                f"{self.transport.server} serves {shown(', '.join(theirs.tasks))} with weights "
                f"{shown(theirs.weights_sha256)!r}, but this backbone belongs to {self.meta.weights_sha256!r}; use the "
                f"same export at both ends"
            )

    def infer(self, images: Tensor, tasks: Iterable[str] | None = None) -> Answer:
        """Return the answers of tasks for images.

        Args:
            images: images uint8 [B, 3, S, S].
            tasks: names of the tasks; None asks for all.

        Raises:
            WireError: for an unknown task.
            ValueError: if the backbone, or the local heads, give numbers that are not finite.
            ServerFailed: if there is no answer of the server, and no local heads: `ServerUnreachable` if none comes,
                `RequestRefused` if the server refuses the request, `WrongAnswer` if what comes is no answer.
        """
        asked = self.meta.tasks if tasks is None else tuple(tasks)
        mask = task_mask(asked, self.meta.tasks)
        start = self._clock()
        z = self._features(images)
        body = self.wire.leaving(EDGE, SERVER, Message(content=Content.FEATURES, tasks=mask, tensor=z), self.encoding)
        sent = self._clock()
        try:
            reply = self._exchange("POST", "/infer", body, answer_limits(self.meta, asked, len(images)).max_body_bytes)
            if self.link is not None:
                self._emulate(self.link, len(body), len(reply.body), sent)
            arrived = self._clock()
            logits = self._logits(reply, asked, len(images))
            server_s = min(self._server_s(reply), arrived - sent)
        except ServerFailed as error:
            if self.local_heads is None:
                raise
            return self._answer_here(z, asked, error, edge_s=sent - start, waiting_since=sent)
        latency = Latency(
            edge_s=sent - start + self._clock() - arrived, link_s=arrived - sent - server_s, server_s=server_s
        )
        return Answer(
            logits=logits, latency=latency, up_bytes=len(body), down_bytes=len(reply.body), answered_by="server"
        )

    def infer_here(self, images: Tensor, tasks: Iterable[str] | None, reason: ServerFailed) -> Answer:
        """Return the answers of the local heads, without asking the server, for a reason that is known already."""
        asked = self.meta.tasks if tasks is None else tuple(tasks)
        task_mask(asked, self.meta.tasks)
        start = self._clock()
        z = self._features(images)
        done = self._clock()
        return self._answer_here(z, asked, reason, edge_s=done - start, waiting_since=done)

    def _features(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            z: Tensor = self.backbone(prepared(images, self.meta)).flatten(1)  # [B, Z_b]
        if not bool(z.isfinite().all()):
            raise ValueError("the backbone gives features that are not finite, which no head can answer; export again")
        return z

    def _emulate(self, link: EdgeLink, up_bytes: int, down_bytes: int, sent: float) -> None:
        """Sleep as long as a request and its reply, which is here already, take on the emulated link."""
        if self._begun is None:
            self._begun = sent
        up_s = link.drawn_s(up_bytes, self._link_draws, start_s=sent - self._begun)
        replied_s = self._clock() - self._begun + up_s
        self._sleep(up_s + link.drawn_s(down_bytes, self._link_draws, start_s=replied_s, way="down"))

    def _exchange(self, method: str, path: str, body: bytes, max_bytes: int) -> Reply:
        return exchange_with_retries(
            self.transport, method, path, body, max_bytes, rule=self.retries, jitter=self._jitter, sleep=self._sleep
        )

    def _logits(self, reply: Reply, asked: Sequence[str], num_rows: int) -> dict[str, Tensor]:
        try:
            return read_answer(reply.body, self.meta, asked, num_rows, self.wire)
        except WireError as error:
            raise WrongAnswer(f"{self.transport.server} sends what is no answer ({error.reason}): {error}") from error

    def _server_s(self, reply: Reply) -> float:
        """Return the time that the server says it took; the caller waited at least as long."""
        told = reply.headers.get(SERVER_SECONDS, "0")
        try:
            seconds = float(told)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds < math.inf:
            raise WrongAnswer(f"{self.transport.server} says that it took {shown(told)!r} seconds, which is no time")
        return seconds

    def _answer_here(
        self, z: Tensor, asked: Sequence[str], reason: ServerFailed, *, edge_s: float, waiting_since: float
    ) -> Answer:
        assert self.local_heads is not None
        logger.warning("%s; the local heads answer", reason)
        failed = self._clock()
        with torch.inference_mode():
            logits = {task: self.local_heads[task](z) for task in self.meta.tasks if task in asked}
        if not all(bool(rows.isfinite().all()) for rows in logits.values()):
            raise ValueError("the local heads give answers that are not finite; export the run again") from reason
        latency = Latency(edge_s=edge_s + self._clock() - failed, link_s=failed - waiting_since, server_s=0.0)
        return Answer(
            logits=logits, latency=latency, up_bytes=0, down_bytes=0, answered_by="edge", fallback_reason=str(reason)
        )

    def __enter__(self) -> EdgeClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.transport.close()


def latency_percentiles(latencies: Sequence[Latency]) -> dict[str, dict[str, float]]:
    """Return {"edge_s" | "link_s" | "server_s" | "total_s": {"p50": seconds, "p95": seconds, "p99": ...}}.

    Raises:
        ValueError: without a latency.
    """
    if not latencies:
        raise ValueError("percentiles need at least one latency, got none")
    parts = {name: [getattr(each, name) for each in latencies] for name in ("edge_s", "link_s", "server_s", "total_s")}
    return {
        name: {f"p{percent}": float(np.percentile(seconds, percent)) for percent in PERCENTS}
        for name, seconds in parts.items()
    }
