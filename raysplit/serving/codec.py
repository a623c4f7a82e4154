"""The wire format of messages between the edge and the heads: a fixed header and one tensor.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982) send the flattened backbone output Z_b once for all tasks. The
header holds the requested (or answered) tasks, and the encoding and shape of the tensor. Little-endian, 44 bytes:

    offset  0  magic "RSMT"        8  task mask, bit j = task j        36  payload bytes
            4  version            12  int8 scale (float32)             40  CRC-32 of bytes 0..39 and the payload
            5  content            16  int8 zero point, 3 bytes 0
            6  encoding           20  shape, 4 x uint32, unused = 0
            7  dimensions

All fields of the header are checked against the limits and the length of the body before memory is allocated.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from torch import Tensor

from raysplit.serving.compression import Encoding, Packed, pack, payload_bytes, unpack

MAGIC = b"RSMT"
VERSION = 1
MAX_TASKS = 32
MAX_DIMENSIONS = 4
_FIELDS = struct.Struct("<4sBBBBIfb3x4II")
_CHECKSUM = struct.Struct("<I")
HEADER_BYTES = _FIELDS.size + _CHECKSUM.size


class Reason(StrEnum):
    """The reasons for which a message is refused."""

    TRUNCATED = "truncated"
    OVERSIZED = "oversized"
    MAGIC = "wrong-magic"
    VERSION = "wrong-version"
    CONTENT = "wrong-content"
    ENCODING = "wrong-encoding"
    SHAPE = "wrong-shape"
    LENGTH = "wrong-length"
    CHECKSUM = "wrong-checksum"
    PARAMETERS = "wrong-parameters"
    PAYLOAD = "wrong-payload"
    TASKS = "unknown-task"
    NOT_FINITE = "not-finite"


class WireError(ValueError):
    """Error raised for a message that violates the protocol.

    Attributes:
        reason: the reason for programs; the text of the error is for people.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Content(IntEnum):
    """The content of a message: features [B, Z_b], logits of the answered tasks [B, sum K_j], images [B, 3, S, S]."""

    FEATURES = 0
    LOGITS = 1
    IMAGES = 2


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message.

    Attributes:
        content: meaning of the tensor.
        tasks: bit mask of the requested or answered tasks.
        tensor: float32, or uint8 for images.
    """

    content: Content
    tasks: int
    tensor: Tensor


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The largest message that a receiver accepts, by bytes of the body and by rows and values of the tensor."""

    max_body_bytes: int
    max_rows: int
    max_values: int


def encode(message: Message, encoding: Encoding = Encoding.FLOAT32) -> bytes:
    """Return the header and payload of a message.

    Raises:
        ValueError: for a task mask, a shape or a value that the format cannot represent.
    """
    shape = tuple(message.tensor.shape)
    if not 1 <= len(shape) <= MAX_DIMENSIONS or min(shape) < 1:
        raise ValueError(f"a message must have 1 to {MAX_DIMENSIONS} dimensions of at least 1, got shape {shape}")
    if not 0 < message.tasks < 1 << MAX_TASKS:
        raise ValueError(f"a task mask must be above 0 and have at most {MAX_TASKS} bits, got {message.tasks:#x}")
    packed = pack(message.tensor, encoding)
    fields = _FIELDS.pack(
        MAGIC, VERSION, message.content, encoding, len(shape), message.tasks, packed.scale, packed.zero,
        *shape, *[0] * (MAX_DIMENSIONS - len(shape)), len(packed.payload),
    )  # fmt: skip
    checksum = zlib.crc32(packed.payload, zlib.crc32(fields))
    return b"".join((fields, _CHECKSUM.pack(checksum), packed.payload))


def check_size(num_bytes: int, limits: Limits) -> None:
    """Refuse a body by its announced size, before it is read; raise `WireError`."""
    if num_bytes > limits.max_body_bytes:
        raise WireError(
            Reason.OVERSIZED, f"the body has {num_bytes} bytes, at most {limits.max_body_bytes} are accepted"
        )
    if num_bytes < HEADER_BYTES:
        raise WireError(Reason.TRUNCATED, f"the body has {num_bytes} bytes, fewer than a header of {HEADER_BYTES}")


def decode(body: bytes, limits: Limits) -> Message:
    """Return the message in a body.

    Raises:
        WireError: for every body that `encode` cannot have written; no other exception is raised.
    """
    check_size(len(body), limits)
    magic, version, content, encoding, dimensions, tasks, scale, zero, *shape, num_bytes = _FIELDS.unpack_from(body)
    if magic != MAGIC:
        raise WireError(Reason.MAGIC, f"the body starts with {magic!r}, but a message starts with {MAGIC!r}")
    if version != VERSION:
        raise WireError(Reason.VERSION, f"the message has version {version}, but this end supports version {VERSION}")
    if content not in {*Content}:
        raise WireError(Reason.CONTENT, f"unknown content {content} (one of {[*map(int, Content)]})")
    if encoding not in {*Encoding}:
        raise WireError(Reason.ENCODING, f"unknown encoding {encoding} (one of {[*map(int, Encoding)]})")
    kind, dims = Encoding(encoding), _checked_shape(dimensions, shape, limits)
    expected = payload_bytes(kind, math.prod(dims))
    if num_bytes != len(body) - HEADER_BYTES or expected not in (None, num_bytes):
        announced = f"the header announces {num_bytes} bytes and {kind.name} of shape {list(dims)}"
        raise WireError(Reason.LENGTH, f"{announced}, but {len(body) - HEADER_BYTES} bytes follow")
    _check_affine(kind, scale, zero)
    payload = memoryview(body)[HEADER_BYTES:]
    if _CHECKSUM.unpack_from(body, _FIELDS.size)[0] != zlib.crc32(payload, zlib.crc32(body[: _FIELDS.size])):
        raise WireError(Reason.CHECKSUM, "the checksum does not match: the message was damaged in transit")
    try:
        tensor = unpack(Packed(payload=payload, scale=scale, zero=zero), kind, dims)
    except ValueError as error:
        raise WireError(Reason.PAYLOAD, str(error)) from error
    return Message(content=Content(content), tasks=tasks, tensor=tensor)


def _checked_shape(dimensions: int, shape: Sequence[int], limits: Limits) -> tuple[int, ...]:
    if not 1 <= dimensions <= MAX_DIMENSIONS or any(shape[dimensions:]) or not all(shape[:dimensions]):
        raise WireError(
            Reason.SHAPE, f"a shape has 1 to 4 dimensions of at least 1, then zeros; got {dimensions} of {list(shape)}"
        )
    if dimensions > 1 and shape[0] > limits.max_rows:
        raise WireError(Reason.OVERSIZED, f"the message has {shape[0]} rows, at most {limits.max_rows} are accepted")
    if math.prod(shape[:dimensions]) > limits.max_values:
        raise WireError(
            Reason.OVERSIZED,
            f"shape {list(shape[:dimensions])} holds more than the {limits.max_values} accepted values",
        )
    return tuple(shape[:dimensions])


def _check_affine(encoding: Encoding, scale: float, zero: int) -> None:
    valid = math.isfinite(scale) and scale > 0 if encoding is Encoding.INT8 else (scale, zero) == (0.0, 0)
    if not valid:
        found = f"got {encoding.name} with scale {scale} and zero point {zero}"
        raise WireError(Reason.PARAMETERS, f"INT8 needs a scale above 0 and other encodings have no scale; {found}")


def task_mask(chosen: Iterable[str], tasks: Sequence[str]) -> int:
    """Return the bit mask of the chosen tasks; raise `WireError` for an unknown task."""
    mask = 0
    for task in chosen:
        if task not in tasks:
            raise WireError(Reason.TASKS, f"unknown task {task!r} (one of {', '.join(tasks)})")
        mask |= 1 << tasks.index(task)
    return mask


def masked_tasks(mask: int, tasks: Sequence[str]) -> tuple[str, ...]:
    """Return the tasks of a bit mask in order; raise `WireError` for an empty mask or a bit without a task."""
    if not 0 < mask < 1 << len(tasks):
        raise WireError(
            Reason.TASKS, f"task mask {mask:#x} must select at least one of {', '.join(tasks)} and nothing else"
        )
    return tuple(task for j, task in enumerate(tasks) if mask >> j & 1)
