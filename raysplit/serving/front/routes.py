"""The three routes: ``POST /infer``, ``GET /meta`` and ``GET /health``, on FastAPI.

A message that violates the protocol gets a 4xx, a server that cannot answer now a 503 or 504, each with
{"reason", "message"}. Who may ask is decided before a route is looked for, and a body is read before a head is asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send
from torch import Tensor

from raysplit.models.classifier.export import ServingMeta, served_features
from raysplit.serving.codec import WireError
from raysplit.serving.front.access import Access
from raysplit.serving.front.bodies import Bodies, NoRoom, SlowBody
from raysplit.serving.front.limits import FrontLimits
from raysplit.serving.service import Question, limits_for, read_question, status_of, write_answer
from raysplit.serving.transport import SERVER_SECONDS
from raysplit.serving.wire_link import WireLink

logger = logging.getLogger(__name__)


class HeadsUnavailable(Exception):
    """Error raised if the heads cannot answer now; another attempt may succeed."""


class Heads(Protocol):
    """The heads as the routes ask them; both raise `HeadsUnavailable` or `NoRoom`, and ``WireError`` as a refusal."""

    async def ready(self) -> None: ...

    async def answer(self, question: Question) -> Mapping[str, Tensor]: ...


def application(meta: ServingMeta, heads: Heads, *, max_batch: int, limits: FrontLimits, access: Access) -> ASGIApp:
    """Return the application that answers for a served model."""
    features, wire = served_features(meta), WireLink()
    largest = limits_for(meta, features, max_batch)
    bodies = Bodies(largest, body_s=limits.body_s, held_bytes=limits.held_bytes)
    routes = FastAPI(openapi_url=None, redirect_slashes=False, exception_handlers=_REFUSALS)

    @routes.get("/meta")
    async def describe() -> Response:
        return JSONResponse(meta.model_dump())

    @routes.get("/health")
    async def health() -> Response:
        async with asyncio.timeout(limits.answer_s):
            await heads.ready()
        return JSONResponse({"status": "ok", "tasks": list(meta.tasks)})

    @routes.post("/infer")
    async def infer(request: Request) -> Response:
        async with bodies.held(request) as body:
            start = time.perf_counter()
            question = read_question(body, meta, features, largest, wire)
            async with asyncio.timeout(limits.answer_s):
                logits = await heads.answer(question)
            answer = write_answer(logits, meta, wire)
            headers = {SERVER_SECONDS: f"{time.perf_counter() - start:.9f}"}
        return Response(answer, media_type="application/octet-stream", headers=headers)

    return _Door(routes, access)


class _Door:
    """What is checked of every request before its route: the token, and that it is plain HTTP."""

    def __init__(self, inside: ASGIApp, access: Access) -> None:
        self.inside, self.access = inside, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if not self.access.admits(headers.get("authorization")):
            refusal = _refusal(401, "no-token", "this server needs a token; give the edge its --token-file")
            refusal.headers["www-authenticate"] = "Bearer"
            await refusal(scope, receive, send)
        elif "websocket" in headers.get("upgrade", "").lower():
            await _refusal(400, "no-websocket", "this server has no WebSockets, only HTTP/1.1")(scope, receive, send)
        else:
            await self.inside(scope, receive, send)


def _refusal(status: int, reason: str, message: str) -> Response:
    return JSONResponse({"reason": str(reason), "message": message}, status_code=status)


async def _unknown_route(request: Request, error: Exception) -> Response:
    return _refusal(404, "unknown-route", "there are POST /infer, GET /meta and GET /health")


async def _wrong_message(request: Request, error: WireError) -> Response:
    return _refusal(status_of(error.reason), error.reason, str(error))


async def _disconnected(request: Request, error: Exception) -> Response:
    return _refusal(400, "disconnected", "the client disconnected before its message was complete")


async def _too_slow(request: Request, error: Exception) -> Response:
    return _refusal(408, "too-slow", str(error))


async def _overloaded(request: Request, error: Exception) -> Response:
    return _refusal(503, "overloaded", str(error))


async def _unavailable(request: Request, error: Exception) -> Response:
    logger.warning("the heads cannot answer: %s", error)
    return _refusal(503, "unavailable", "the heads cannot answer now; try again")


async def _no_answer(request: Request, error: Exception) -> Response:
    logger.warning("the heads did not answer in time")
    return _refusal(504, "no-answer", "the heads did not answer in time")


async def _failed(request: Request, error: Exception) -> Response:
    return _refusal(500, "failed", "the server failed; its log says why")


_REFUSALS: dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]] = {
    HTTPException: _unknown_route,
    WireError: _wrong_message,
    ClientDisconnect: _disconnected,
    SlowBody: _too_slow,
    NoRoom: _overloaded,
    HeadsUnavailable: _unavailable,
    TimeoutError: _no_answer,
    Exception: _failed,
}
