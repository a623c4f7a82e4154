"""An exported classifier for tests of the edge, and a server for it without a network."""

from __future__ import annotations

import json

import torch
from torch import Tensor

from raysplit.models.classifier.export import (
    Serving,
    ServingMeta,
    served_features,
)
from raysplit.serving.codec import WireError
from raysplit.serving.edge import EdgeClient
from raysplit.serving.service import (
    answer_together,
    limits_for,
    read_question,
    status_of,
    write_answer,
)
from raysplit.serving.transport import (
    Reply,
)
from raysplit.serving.wire_link import WireLink

CLASSES = {"age": ("young", "old"), "gender": ("f", "m"), "mood": ("sad", "calm", "glad")}
META = ServingMeta(backbone="small", image_size=64, classes=CLASSES, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.25))


def pictures(count: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (count, 3, 64, 64), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


class InProcess:
    """A server without a network; `failures` come first, then answers."""

    server = "http://in.process"

    def __init__(self, serving: Serving, failures: tuple[Reply | Exception, ...] = (), server_s: float = 0.0) -> None:
        self.serving, self.failures, self.server_s = serving, list(failures), server_s
        self.limits = limits_for(serving.meta, served_features(serving.meta), max_batch=64)
        self.bodies: list[bytes] = []
        self.wire = WireLink()

    def exchange(self, method: str, path: str, body: bytes, max_bytes: int) -> Reply:
        self.bodies.append(body)
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return failure
        if (method, path) == ("GET", "/meta"):
            return Reply(status=200, headers={}, body=serving_json(self.serving.meta))
        meta = self.serving.meta
        try:
            question = read_question(body, meta, served_features(meta), self.limits, self.wire)
        except WireError as error:
            told = json.dumps({"reason": error.reason, "message": str(error)}).encode()
            return Reply(status=status_of(error.reason), headers={}, body=told)
        z = question.tensor.numpy()
        heads = self.serving.model.heads
        logits = {task: torch.tensor(answer_together(heads[task], [z])[0]) for task in question.tasks}
        headers = {"x-raysplit-server-seconds": str(self.server_s)}
        return Reply(status=200, headers=headers, body=write_answer(logits, meta, self.wire))

    def close(self) -> None:
        pass


def serving_json(meta: ServingMeta) -> bytes:
    return json.dumps(meta.model_dump()).encode()


def client_of(serving: Serving, transport: InProcess, **options: object) -> EdgeClient:
    options = {"sleep": lambda seconds: None} | options
    return EdgeClient(meta=serving.meta, backbone=serving.model.backbone, transport=transport, **options)
