"""What a server makes of a message, apart from how it came: checks, batching, replies.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982): the features of a picture come in once, the heads of the asked
tasks answer. Pure functions; the HTTP server and the tests call the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from raysplit.models.classifier.export import Serving, ServingMeta, prepared
from raysplit.serving.codec import (
    HEADER_BYTES,
    Content,
    Limits,
    Message,
    Reason,
    WireError,
    masked_tasks,
    task_mask,
)
from raysplit.serving.wire_link import EDGE, SERVER, WireLink

Array = npt.NDArray[np.generic]

STATUS = {
    Reason.OVERSIZED: 413,
    Reason.VERSION: 415,
    Reason.ENCODING: 415,
    Reason.SHAPE: 422,
    Reason.CONTENT: 422,
    Reason.TASKS: 422,
}  # all other reasons: 400


@dataclass(frozen=True, kw_only=True)
class Question:
    """A checked request: features [B, Z_b] or pictures [B, 3, S, S] for these tasks."""

    content: Content
    tasks: tuple[str, ...]
    tensor: Tensor


def status_of(reason: Reason) -> int:
    """The HTTP status of a refusal."""
    return STATUS.get(reason, 400)


def limits_for(meta: ServingMeta, features: int, max_batch: int) -> Limits:
    """Room for `max_batch` pictures or their float32 features (zlib may add a thousandth to what it cannot shrink)."""
    values = max_batch * max(features, 3 * meta.image_size**2)
    return Limits(max_body_bytes=HEADER_BYTES + 4 * values + values // 250 + 64, max_values=values)


def read_question(body: bytes, meta: ServingMeta, features: int, limits: Limits, link: WireLink) -> Question:
    """The request in `body`. Raises WireError for whatever is not one that this model can answer."""
    message = link.arriving(EDGE, SERVER, body, limits)
    shape, side = tuple(message.tensor.shape), meta.image_size
    expected = {Content.FEATURES: (features,), Content.IMAGES: (3, side, side)}.get(message.content)
    if expected is None:
        raise WireError(Reason.CONTENT, "logits are an answer; send features or pictures")
    if shape[1:] != expected:
        told = ", ".join(map(str, ["B", *expected]))
        raise WireError(Reason.SHAPE, f"{message.content.name} of shape {list(shape)}; this model takes [{told}]")
    if (message.tensor.dtype == torch.uint8) != (message.content is Content.IMAGES):
        raise WireError(Reason.ENCODING, "pictures travel as uint8 and features as floats, not the other way round")
    return Question(content=message.content, tasks=masked_tasks(message.tasks, meta.tasks), tensor=message.tensor)


def write_answer(logits: Mapping[str, Tensor], meta: ServingMeta, link: WireLink) -> bytes:
    """The reply: logits of the answered tasks side by side, in the order of the model's tasks."""
    answered = [task for task in meta.tasks if task in logits]
    together = torch.cat([logits[task] for task in answered], dim=1)  # [B, sum K_j]
    message = Message(content=Content.LOGITS, tasks=task_mask(answered, meta.tasks), tensor=together)
    return link.leaving(SERVER, EDGE, message)


def read_answer(
    body: bytes, meta: ServingMeta, tasks: Sequence[str], num_rows: int, link: WireLink
) -> dict[str, Tensor]:
    """The logits {task: [num_rows, K_task]} in a reply for `tasks`. Raises WireError for any other reply."""
    asked = [task for task in meta.tasks if task in set(tasks)]
    widths = [len(meta.classes[task]) for task in asked]
    size = num_rows * sum(widths)
    message = link.arriving(SERVER, EDGE, body, Limits(max_body_bytes=HEADER_BYTES + 4 * size, max_values=size))
    if message.content is not Content.LOGITS or message.tasks != task_mask(asked, meta.tasks):
        raise WireError(Reason.CONTENT, f"the reply does not answer {', '.join(asked)}")
    if tuple(message.tensor.shape) != (num_rows, sum(widths)):
        raise WireError(Reason.SHAPE, f"logits {list(message.tensor.shape)}, expected {[num_rows, sum(widths)]}")
    return dict(zip(asked, torch.split(message.tensor, widths, dim=1), strict=True))


def joined_rows(arrays: Sequence[Array]) -> Tensor:
    """One batch of the rows of several requests, in torch's own aligned memory (theirs may be shared and read-only)."""
    rows = [len(array) for array in arrays]
    dtype = torch.from_numpy(np.empty(0, arrays[0].dtype)).dtype
    batch = torch.empty((sum(rows), *arrays[0].shape[1:]), dtype=dtype)
    for part, array in zip(torch.split(batch, rows), arrays, strict=True):
        np.copyto(part.numpy(), array)
    return batch


def answer_together(module: nn.Module, arrays: Sequence[Array]) -> list[Array]:
    """One pass of `module` for several requests; their rows of its output, in order."""
    with torch.inference_mode():
        outputs: Tensor = module(joined_rows(arrays))
    return [part.numpy() for part in torch.split(outputs, [len(array) for array in arrays])]


class UnsplitModel(nn.Module):
    """Pictures uint8 [B, 3, S, S] to the logits of all tasks side by side [B, sum K_j]: the remote-only computation."""

    def __init__(self, serving: Serving) -> None:
        super().__init__()
        self.serving = serving.model
        self.meta = serving.meta

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(list(self.serving(prepared(x, self.meta)).values()), dim=1)
