"""The HTTP server of the heads: one Ray Serve deployment per task, and an ingress that checks messages.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982). Routes: `POST /infer` answers a message with a message,
`GET /meta` returns the description of the served model, `GET /health` calls every head. A message that violates the
protocol gets a 4xx with {"reason", "message"}. Requests that wait at a head are answered in one pass.

This is the only file of the folder that imports Ray; connect to a cluster first. Every machine of the cluster needs the
served folder under the same path.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from ray import serve
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from raysplit.models.classifier.export import load_head, load_meta, load_serving, served_features
from raysplit.serving.codec import Content, Reason, WireError, check_size
from raysplit.serving.service import (
    Array,
    Question,
    UnsplitModel,
    answer_together,
    limits_for,
    read_question,
    status_of,
    write_answer,
)
from raysplit.serving.transport import SERVER_SECONDS
from raysplit.serving.wire_link import WireLink

logger = logging.getLogger(__name__)

APPLICATION = "raysplit"


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Options of a server.

    Attributes:
        host: address to listen on.
        port: port to listen on.
        replicas_per_head: replicas of each task's head.
        num_unsplit_replicas: replicas of the unsplit model, which answers images; 0 serves features only.
        max_batch: largest number of images in a request.
        max_joined: largest number of requests that are answered in one pass.
        join_wait_s: seconds for which a request waits for others to join.
        max_queued: requests that wait for a replica before further ones are refused with 503.
        cpus_per_replica: CPUs that each replica reserves; with 0, replicas share the machine.
        timeout_s: seconds after which a request ends.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    replicas_per_head: int = 1
    num_unsplit_replicas: int = 0
    max_batch: int = 64
    max_joined: int = 16
    join_wait_s: float = 0.001
    max_queued: int = 200
    cpus_per_replica: float = 0.0
    timeout_s: float = 30.0


class _Joined:
    """A replica that answers requests together; `module` maps rows to rows."""

    def __init__(self, module: torch.nn.Module, max_joined: int, join_wait_s: float) -> None:
        torch.set_num_threads(1)  # parallelism comes from replicas; more threads than cores are ten times slower
        self.module = module
        self.answer.set_max_batch_size(max_joined)
        self.answer.set_batch_wait_timeout_s(join_wait_s)

    @serve.batch  # type: ignore[untyped-decorator]  # at the edge to Ray
    async def answer(self, arrays: list[Array]) -> list[Array]:
        return answer_together(self.module, arrays)

    async def ready(self) -> bool:
        return True


class Head(_Joined):
    """A replica of the head of one task: from features [B, Z_b] to logits [B, K]."""

    def __init__(self, folder: str, task: str, max_joined: int, join_wait_s: float) -> None:
        super().__init__(load_head(Path(folder), task), max_joined, join_wait_s)


class Unsplit(_Joined):
    """A replica of the unsplit model: from images [B, 3, S, S] to the logits of all tasks [B, sum K_j]."""

    def __init__(self, folder: str, max_joined: int, join_wait_s: float) -> None:
        super().__init__(UnsplitModel(load_serving(Path(folder))), max_joined, join_wait_s)


routes = FastAPI(openapi_url=None, redirect_slashes=False)
"""The three routes; every other path or method gets a 404."""


@routes.exception_handler(HTTPException)
async def _unknown_route(request: Request, error: HTTPException) -> Response:
    return _refusal(404, "unknown-route", "there are POST /infer, GET /meta and GET /health")


@routes.exception_handler(WireError)
async def _wrong_message(request: Request, error: WireError) -> Response:
    return _refusal(status_of(error.reason), error.reason, str(error))


@routes.exception_handler(BackPressureError)
async def _overloaded(request: Request, error: BackPressureError) -> Response:
    return _refusal(503, "overloaded", str(error))


@routes.exception_handler(ClientDisconnect)
async def _disconnected(request: Request, error: ClientDisconnect) -> Response:
    return _refusal(400, "disconnected", "the client disconnected before its message was complete")


def _refusal(status: int, reason: str, message: str) -> Response:
    return JSONResponse({"reason": str(reason), "message": message}, status_code=status)


class Ingress:
    """The replica that receives HTTP requests, checks them and calls the heads."""

    def __init__(
        self, folder: str, max_batch: int, heads: dict[str, DeploymentHandle], unsplit: DeploymentHandle | None
    ) -> None:
        self.meta = load_meta(Path(folder))
        self.features = served_features(self.meta)
        self.limits = limits_for(self.meta, self.features, max_batch)
        self.heads, self.unsplit = heads, unsplit
        self.wire = WireLink()

    @routes.get("/meta")
    async def describe(self) -> Response:
        return JSONResponse(self.meta.model_dump())

    @routes.get("/health")
    async def health(self) -> Response:
        await asyncio.gather(*(head.ready.remote() for head in self.heads.values()))
        return JSONResponse({"status": "ok", "tasks": list(self.meta.tasks)})

    @routes.post("/infer")
    async def infer(self, request: Request) -> Response:
        body = await self._body(request)
        start = time.perf_counter()
        question = read_question(body, self.meta, self.features, self.limits, self.wire)
        logits = await (self._from_heads if question.content is Content.FEATURES else self._from_unsplit)(question)
        answer = write_answer(logits, self.meta, self.wire)
        headers = {SERVER_SECONDS: f"{time.perf_counter() - start:.9f}"}
        return Response(answer, media_type="application/octet-stream", headers=headers)

    async def _body(self, request: Request) -> bytes:
        """Read the body; refuse it by its announced length, or as soon as it exceeds the limit."""
        announced = request.headers.get("content-length", "")
        if announced.isdecimal():
            check_size(int(announced), self.limits)
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self.limits.max_body_bytes:
                raise WireError(Reason.OVERSIZED, f"the body has more than {self.limits.max_body_bytes} bytes")
            parts.append(part)
        return b"".join(parts)

    async def _from_heads(self, question: Question) -> Mapping[str, torch.Tensor]:
        z = question.tensor.numpy()
        answers = await asyncio.gather(*(self.heads[task].answer.remote(z) for task in question.tasks))
        return {task: torch.tensor(rows) for task, rows in zip(question.tasks, answers, strict=True)}

    async def _from_unsplit(self, question: Question) -> Mapping[str, torch.Tensor]:
        if self.unsplit is None:
            raise WireError(
                Reason.CONTENT, "this server accepts features only; start it with unsplit replicas to send images"
            )
        together = torch.tensor(await self.unsplit.answer.remote(question.tensor.numpy()))
        widths = [len(names) for names in self.meta.classes.values()]
        everything = dict(zip(self.meta.tasks, torch.split(together, widths, dim=1), strict=True))
        return {task: everything[task] for task in question.tasks}


ServedIngress = serve.ingress(routes)(Ingress)  # not a decorator: Ray copies the routes, and they name the class


def application(folder: Path, options: ServerOptions) -> Any:
    """Return the Ray Serve application of an exported folder; raise ``ValueError`` if it cannot be loaded."""
    meta = load_serving(folder).meta  # loaded here to fail now, not in the log of a replica
    place = str(folder.resolve())
    shared = {
        "ray_actor_options": {"num_cpus": options.cpus_per_replica},
        "max_queued_requests": options.max_queued,
        "max_ongoing_requests": 2 * options.max_joined,
    }
    joining = (options.max_joined, options.join_wait_s)
    heads = {
        task: _deployment(Head, name=f"head-{task}", num_replicas=options.replicas_per_head, **shared).bind(
            place, task, *joining
        )
        for task in meta.tasks
    }
    unsplit = None
    if options.num_unsplit_replicas:
        unsplit = _deployment(Unsplit, num_replicas=options.num_unsplit_replicas, **shared).bind(place, *joining)
    ingress = _deployment(ServedIngress, **{**shared, "max_ongoing_requests": 100})
    return ingress.bind(place, options.max_batch, heads, unsplit)


def _deployment(role: type, **options: Any) -> Any:
    return serve.deployment(role).options(**options)


def start(folder: Path, options: ServerOptions) -> None:
    """Serve a folder on the connected Ray until `stop`; return when all replicas are up.

    Raises:
        ValueError: if the folder cannot be loaded.
    """
    app = application(folder, options)
    serve.start(http_options={"host": options.host, "port": options.port, "request_timeout_s": options.timeout_s})
    serve.run(app, name=APPLICATION, route_prefix="/")
    logger.info("serving %s: %s", folder, json.dumps(asdict(options)))


def stop() -> None:
    """Stop the server and stay connected to Ray."""
    serve.shutdown()
