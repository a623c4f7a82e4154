"""The server of the heads: one Ray Serve deployment per task, behind an HTTP front in this process.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982). Routes: `POST /infer` answers a message with a message,
`GET /meta` returns the description of the served model, `GET /health` calls every head. Requests that wait at a head
are answered in one pass. Ray Serve's own HTTP proxy is not started: it has no limit on the time of a header or a body.

This is the only file of the folder that imports Ray; connect to a cluster first. Every machine of the cluster needs the
served folder under the same path.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from raysplit.models.classifier.export import ServingMeta, load_head, load_serving
from raysplit.serving.codec import Content, Reason, WireError
from raysplit.serving.front.access import Access
from raysplit.serving.front.bodies import NoRoom
from raysplit.serving.front.limits import FrontLimits
from raysplit.serving.front.listener import Front
from raysplit.serving.front.routes import HeadsUnavailable, application
from raysplit.serving.service import Array, Question, UnsplitModel, answer_together

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
        limits: bounds on the time of a request, on connections and on memory.
        access: token and TLS; by default neither.
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
    limits: FrontLimits = field(default_factory=FrontLimits)
    access: Access = field(default_factory=Access)


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


class RayHeads:
    """The replicas, as the front asks them.

    Args:
        meta: description of the served model.
        heads: handles of the heads by task.
        unsplit: handle of the unsplit model, or None.
    """

    def __init__(self, meta: ServingMeta, heads: Mapping[str, DeploymentHandle], unsplit: DeploymentHandle | None):
        self.meta, self.heads, self.unsplit = meta, heads, unsplit

    async def ready(self) -> None:
        """Call every head."""
        await self._all(*(head.ready.remote() for head in self.heads.values()))

    async def answer(self, question: Question) -> Mapping[str, torch.Tensor]:
        """Return the logits of the asked tasks."""
        if question.content is Content.FEATURES:
            return await self._from_heads(question)
        return await self._from_unsplit(question)

    async def _from_heads(self, question: Question) -> Mapping[str, torch.Tensor]:
        z = question.tensor.numpy()
        answers = await self._all(*(self.heads[task].answer.remote(z) for task in question.tasks))
        return {task: torch.tensor(rows) for task, rows in zip(question.tasks, answers, strict=True)}

    async def _from_unsplit(self, question: Question) -> Mapping[str, torch.Tensor]:
        if self.unsplit is None:
            raise WireError(
                Reason.CONTENT, "this server accepts features only; start it with unsplit replicas to send images"
            )
        (rows,) = await self._all(self.unsplit.answer.remote(question.tensor.numpy()))
        widths = [len(names) for names in self.meta.classes.values()]
        everything = dict(zip(self.meta.tasks, torch.split(torch.tensor(rows), widths, dim=1), strict=True))
        return {task: everything[task] for task in question.tasks}

    async def _all(self, *answers: Any) -> list[Any]:
        try:
            return await asyncio.gather(*answers)
        except BackPressureError as error:
            raise NoRoom(f"too many requests wait for a head: {error}") from error
        except (RayActorError, DeploymentUnavailableError) as error:
            raise HeadsUnavailable(str(error)) from error


_fronts: list[Front] = []
"""The front that `start` opened and `stop` closes; Ray Serve itself is one per cluster."""


def start(folder: Path, options: ServerOptions) -> None:
    """Serve a folder on the connected Ray until `stop`; return when all replicas are up.

    Raises:
        ValueError: if the folder cannot be loaded, or the address cannot be listened at.
    """
    meta = load_serving(folder).meta  # loaded here to fail now, not in the log of a replica
    serve.start(proxy_location="Disabled")
    try:
        _open(folder, meta, options)
    except BaseException:
        serve.shutdown()
        raise
    logger.info("serving %s at %s:%d with %s", folder, options.host, options.port, options.limits)


def stop() -> None:
    """Stop the server and stay connected to Ray."""
    while _fronts:
        _fronts.pop().stop()
    serve.shutdown()


def _open(folder: Path, meta: ServingMeta, options: ServerOptions) -> None:
    targets = [
        serve.RunTarget(target=target, name=f"{APPLICATION}-{name}", route_prefix=None)
        for name, target in _targets(folder, meta, options).items()
    ]
    handles = serve.run_many(targets)
    heads = RayHeads(meta, dict(zip(meta.tasks, handles, strict=False)), (handles[len(meta.tasks) :] or [None])[0])
    app = application(meta, heads, max_batch=options.max_batch, limits=options.limits, access=options.access)
    _fronts.append(Front(app, options.host, options.port, limits=options.limits, access=options.access))


def _targets(folder: Path, meta: ServingMeta, options: ServerOptions) -> dict[str, Any]:
    """Return what Ray Serve runs, by name: a head for every task in order, then the unsplit model if asked for."""
    place, joining = str(folder.resolve()), (options.max_joined, options.join_wait_s)
    shared = {
        "ray_actor_options": {"num_cpus": options.cpus_per_replica},
        "max_queued_requests": options.max_queued,
        "max_ongoing_requests": 2 * options.max_joined,
    }
    found = {
        f"head-{task}": serve.deployment(Head)
        .options(name=f"head-{task}", num_replicas=options.replicas_per_head, **shared)
        .bind(place, task, *joining)
        for task in meta.tasks
    }
    if options.num_unsplit_replicas:
        unsplit = serve.deployment(Unsplit).options(num_replicas=options.num_unsplit_replicas, **shared)
        found["unsplit"] = unsplit.bind(place, *joining)
    return found
