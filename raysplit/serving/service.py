"""The processing of messages without HTTP: checks, batching, replies.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982): the features of an image arrive once, and the heads of the
requested tasks answer. The functions are pure; the HTTP server and the tests call the same ones.
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
    Reason.NOT_FINITE: 422,
}  # all other reasons: 400


@dataclass(frozen=True, kw_only=True)
class Question:
    """A checked request: features [B, Z_b] or images [B, 3, S, S] for these tasks."""

    content: Content
    tasks: tuple[str, ...]
    tensor: Tensor


def status_of(reason: Reason) -> int:
    """Return the HTTP status of a refusal."""
    return STATUS.get(reason, 400)


def limits_for(meta: ServingMeta, features: int, max_batch: int) -> Limits:
    """Return limits for `max_batch` images, a byte per value, or their features, four bytes per value.

    Incompressible zlib data grows by a thousandth.
    """
    floats, pixels = max_batch * features, max_batch * 3 * meta.image_size**2
    return Limits(
        max_body_bytes=HEADER_BYTES + max(4 * floats + floats // 250 + 64, pixels),
        max_rows=max_batch,
        max_values=max(floats, pixels),
    )


def read_question(body: bytes, meta: ServingMeta, features: int, limits: Limits, link: WireLink) -> Question:
    """Return the request in a body; raise `WireError` if this model cannot answer it."""
    message = link.arriving(EDGE, SERVER, body, limits)
    shape, side = tuple(message.tensor.shape), meta.image_size
    expected = {Content.FEATURES: (features,), Content.IMAGES: (3, side, side)}.get(message.content)
    if expected is None:
        raise WireError(Reason.CONTENT, "a request cannot contain logits; send features or images")
    if shape[1:] != expected:
        wanted = ", ".join(map(str, ["B", *expected]))
        raise WireError(
            Reason.SHAPE, f"{message.content.name} for this model must have shape [{wanted}], got {list(shape)}"
        )
    if (message.tensor.dtype == torch.uint8) != (message.content is Content.IMAGES):
        raise WireError(Reason.ENCODING, "images must be sent as uint8 and features as floats")
    _check_finite(message.tensor, "the features")
    return Question(content=message.content, tasks=masked_tasks(message.tasks, meta.tasks), tensor=message.tensor)


def write_answer(logits: Mapping[str, Tensor], meta: ServingMeta, link: WireLink) -> bytes:
    """Return the reply, with the logits of the answered tasks side by side in the order of the model's tasks.

    Raises:
        WireError: if a logit is not finite, which answers nothing.
    """
    answered = [task for task in meta.tasks if task in logits]
    together = torch.cat([logits[task] for task in answered], dim=1)  # [B, sum K_j]
    _check_finite(together, "the logits of these features")
    message = Message(content=Content.LOGITS, tasks=task_mask(answered, meta.tasks), tensor=together)
    return link.leaving(SERVER, EDGE, message)


def answer_limits(meta: ServingMeta, tasks: Sequence[str], num_rows: int) -> Limits:
    """Return the limits of a reply with the logits of these tasks for `num_rows` images."""
    values = num_rows * sum(len(meta.classes[task]) for task in set(tasks))
    return Limits(max_body_bytes=HEADER_BYTES + 4 * values, max_rows=num_rows, max_values=values)


def read_answer(
    body: bytes, meta: ServingMeta, tasks: Sequence[str], num_rows: int, link: WireLink
) -> dict[str, Tensor]:
    """Return the logits {task: [num_rows, K_task]} of a reply; raise `WireError` if it does not answer these tasks."""
    asked = [task for task in meta.tasks if task in set(tasks)]
    widths = [len(meta.classes[task]) for task in asked]
    limits = answer_limits(meta, asked, num_rows)
    message = link.arriving(SERVER, EDGE, body, limits)
    if message.content is not Content.LOGITS or message.tasks != task_mask(asked, meta.tasks):
        raise WireError(Reason.CONTENT, f"the reply does not answer {', '.join(asked)}")
    if tuple(message.tensor.shape) != (num_rows, sum(widths)):
        raise WireError(
            Reason.SHAPE, f"the logits must have shape {[num_rows, sum(widths)]}, got {list(message.tensor.shape)}"
        )
    _check_finite(message.tensor, "the logits")
    return dict(zip(asked, torch.split(message.tensor, widths, dim=1), strict=True))


def _check_finite(values: Tensor, what: str) -> None:
    if values.is_floating_point() and not bool(values.isfinite().all()):
        wrong = int((~values.isfinite()).sum())
        raise WireError(Reason.NOT_FINITE, f"{what} must be finite, got {wrong} of {values.numel()} NaN or infinite")


def joined_rows(arrays: Sequence[Array]) -> Tensor:
    """Copy the rows of several requests, which may be in read-only memory, into one batch in aligned memory."""
    rows = [len(array) for array in arrays]
    dtype = torch.from_numpy(np.empty(0, arrays[0].dtype)).dtype
    batch = torch.empty((sum(rows), *arrays[0].shape[1:]), dtype=dtype)
    for part, array in zip(torch.split(batch, rows), arrays, strict=True):
        np.copyto(part.numpy(), array)
    return batch


def answer_together(module: nn.Module, arrays: Sequence[Array]) -> list[Array]:
    """Run the module once for several requests, and return the rows of each request in order."""
    with torch.inference_mode():
        outputs: Tensor = module(joined_rows(arrays))
    return [part.numpy() for part in torch.split(outputs, [len(array) for array in arrays])]


class UnsplitModel(nn.Module):
    """The unsplit model: from images uint8 [B, 3, S, S] to the logits of all tasks side by side [B, sum K_j]."""

    def __init__(self, serving: Serving) -> None:
        super().__init__()
        self.serving = serving.model
        self.meta = serving.meta

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(list(self.serving(prepared(x, self.meta)).values()), dim=1)
