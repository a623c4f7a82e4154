"""The message on the wire between edge and heads: one fixed header, one tensor.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982) sends the flattened backbone output Z_b once for all tasks. The
header says which tasks are asked for (or answered), how the tensor is encoded and its shape. Little-endian, 44 bytes:

    offset  0  magic "RSMT"        8  task mask, bit j = task j        36  payload bytes
            4  version            12  int8 scale (float32)             40  CRC-32 of bytes 0..39 and the payload
            5  content            16  int8 zero point, 3 bytes 0
            6  encoding           20  shape, 4 x uint32, unused = 0
            7  dimensions

Everything in the header is checked against the limits and the length of the body before anything is allocated.
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
    """Why a message was refused."""

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


class WireError(ValueError):
    """A message that is not what the protocol says; `reason` is for programs, the text for people."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Content(IntEnum):
    """What the tensor is: features [B, Z_b], logits of the answered tasks [B, sum K_j], pictures [B, 3, S, S]."""

    FEATURES = 0
    LOGITS = 1
    IMAGES = 2


@dataclass(frozen=True, kw_only=True)
class Message:
    """`tasks` is a bit mask; `tensor` is float32, uint8 for pictures."""

    content: Content
    tasks: int
    tensor: Tensor


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a receiver is ready to hold."""

    max_body_bytes: int
    max_values: int


def encode(message: Message, encoding: Encoding = Encoding.FLOAT32) -> bytes:
    """Header and payload. Raises ValueError for a mask, shape or value that the format cannot hold."""
    shape = tuple(message.tensor.shape)
    if not 1 <= len(shape) <= MAX_DIMENSIONS or min(shape) < 1:
        raise ValueError(f"a message carries 1 to {MAX_DIMENSIONS} dimensions of at least 1, got {shape}")
    if not 0 < message.tasks < 1 << MAX_TASKS:
        raise ValueError(f"a task mask has 1 to {MAX_TASKS} bits, got {message.tasks:#x}")
    packed = pack(message.tensor, encoding)
    fields = _FIELDS.pack(
        MAGIC, VERSION, message.content, encoding, len(shape), message.tasks, packed.scale, packed.zero,
        *shape, *[0] * (MAX_DIMENSIONS - len(shape)), len(packed.payload),
    )  # fmt: skip
    checksum = zlib.crc32(packed.payload, zlib.crc32(fields))
    return b"".join((fields, _CHECKSUM.pack(checksum), packed.payload))


def check_size(num_bytes: int, limits: Limits) -> None:
    """Refuse a body by its announced size alone, before it is read."""
    if num_bytes > limits.max_body_bytes:
        raise WireError(Reason.OVERSIZED, f"the body has {num_bytes} bytes, at most {limits.max_body_bytes} are taken")
    if num_bytes < HEADER_BYTES:
        raise WireError(Reason.TRUNCATED, f"the body has {num_bytes} bytes, the header alone takes {HEADER_BYTES}")


def decode(body: bytes, limits: Limits) -> Message:
    """The message in `body`. Raises WireError, and nothing else, for anything that `encode` would not have written."""
    check_size(len(body), limits)
    magic, version, content, encoding, dimensions, tasks, scale, zero, *shape, num_bytes = _FIELDS.unpack_from(body)
    if magic != MAGIC:
        raise WireError(Reason.MAGIC, f"the body starts with {magic!r}, a message with {MAGIC!r}")
    if version != VERSION:
        raise WireError(Reason.VERSION, f"the message has version {version}, this side speaks {VERSION}")
    if content not in {*Content}:
        raise WireError(Reason.CONTENT, f"content {content} is unknown; known are {[*map(int, Content)]}")
    if encoding not in {*Encoding}:
        raise WireError(Reason.ENCODING, f"encoding {encoding} is unknown; known are {[*map(int, Encoding)]}")
    kind, dims = Encoding(encoding), _checked_shape(dimensions, shape, limits)
    expected = payload_bytes(kind, math.prod(dims))
    if num_bytes != len(body) - HEADER_BYTES or num_bytes != (num_bytes if expected is None else expected):
        told = f"the header tells {num_bytes} bytes and {kind.name} {dims}, {len(body) - HEADER_BYTES} bytes follow"
        raise WireError(Reason.LENGTH, told)
    _check_affine(kind, scale, zero)
    payload = memoryview(body)[HEADER_BYTES:]
    if _CHECKSUM.unpack_from(body, _FIELDS.size)[0] != zlib.crc32(payload, zlib.crc32(body[: _FIELDS.size])):
        raise WireError(Reason.CHECKSUM, "the checksum does not match: the message was damaged on its way")
    try:
        tensor = unpack(Packed(payload=payload, scale=scale, zero=zero), kind, dims)
    except ValueError as error:
        raise WireError(Reason.PAYLOAD, str(error)) from error
    return Message(content=Content(content), tasks=tasks, tensor=tensor)


def _checked_shape(dimensions: int, shape: Sequence[int], limits: Limits) -> tuple[int, ...]:
    if not 1 <= dimensions <= MAX_DIMENSIONS or any(shape[dimensions:]) or not all(shape[:dimensions]):
        raise WireError(Reason.SHAPE, f"{dimensions} dimensions {list(shape)}: give 1 to 4 of at least 1, then zeros")
    if math.prod(shape[:dimensions]) > limits.max_values:
        told = f"shape {list(shape[:dimensions])} holds more than the {limits.max_values} values that are taken"
        raise WireError(Reason.OVERSIZED, told)
    return tuple(shape[:dimensions])


def _check_affine(encoding: Encoding, scale: float, zero: int) -> None:
    valid = math.isfinite(scale) and scale > 0 if encoding is Encoding.INT8 else (scale, zero) == (0.0, 0)
    if not valid:
        told = f"{encoding.name} with scale {scale} and zero point {zero}: int8 alone has them, its scale is above 0"
        raise WireError(Reason.PARAMETERS, told)


def task_mask(chosen: Iterable[str], tasks: Sequence[str]) -> int:
    """The bits of `chosen` among all `tasks`. Raises WireError for an unknown one."""
    mask = 0
    for task in chosen:
        if task not in tasks:
            raise WireError(Reason.TASKS, f"unknown task {task!r}; this model answers {', '.join(tasks)}")
        mask |= 1 << tasks.index(task)
    return mask


def masked_tasks(mask: int, tasks: Sequence[str]) -> tuple[str, ...]:
    """The tasks whose bits are set, in order. Raises WireError for an empty mask or a bit beyond the last task."""
    if not 0 < mask < 1 << len(tasks):
        raise WireError(Reason.TASKS, f"task mask {mask:#x} asks for none or unknown ones of {', '.join(tasks)}")
    return tuple(task for j, task in enumerate(tasks) if mask >> j & 1)
