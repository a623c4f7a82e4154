"""Encodings of tensors as bytes: float32, half precision, int8, or lossless compression.

The shared features of Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982) are float32. Half precision and affine
int8 shrink them by factors of two and four at some loss of accuracy; zlib is lossless and gains from the zeros of a
ReLU. All bytes are little-endian and row-major.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from raysplit.cluster.codecs.affine import Int8
from raysplit.cluster.codecs.codec import Passage


class Encoding(IntEnum):
    """The encodings, with their numbers in the header of a message."""

    FLOAT32 = 0
    FLOAT16 = 1
    INT8 = 2
    ZLIB = 3
    UINT8 = 4


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Encoded values; only int8 has a `scale` (above 0) and a `zero`: value = (byte - zero) * scale."""

    payload: bytes | memoryview
    scale: float = 0.0
    zero: int = 0


_ITEM_BYTES = {Encoding.FLOAT32: 4, Encoding.FLOAT16: 2, Encoding.INT8: 1, Encoding.UINT8: 1}
_FLOAT16_MAX = 65504.0
_INT8 = Int8(by="tensor")
"""The codec of training, whose decoded values are those of the int8 encoding, bit for bit."""
_AT = Passage("edge", "server", "smashed", None, "")


def payload_bytes(encoding: Encoding, num_values: int) -> int | None:
    """Return the exact size in bytes of the encoded values, or None for zlib, whose size depends on the values."""
    return None if encoding is Encoding.ZLIB else _ITEM_BYTES[encoding] * num_values


def pack(values: Tensor, encoding: Encoding) -> Packed:
    """Encode a float tensor, or a uint8 tensor for the uint8 encoding.

    Raises:
        ValueError: for values that the encoding cannot represent.
    """
    array = values.detach().cpu().contiguous().numpy()
    if encoding is Encoding.UINT8:
        if array.dtype != np.uint8:
            raise ValueError(f"the uint8 encoding needs a uint8 tensor, got {values.dtype}; send floats as float32")
        return Packed(payload=array.tobytes())
    floats: npt.NDArray[np.float32] = array.astype("<f4", copy=False)
    if encoding is Encoding.FLOAT32:
        return Packed(payload=floats.tobytes())
    if encoding is Encoding.FLOAT16:
        return Packed(payload=_half(floats))
    if encoding is Encoding.INT8:
        return _quantized(floats)
    return Packed(payload=zlib.compress(_planes(floats), level=1))


def unpack(packed: Packed, encoding: Encoding, shape: tuple[int, ...]) -> Tensor:
    """Decode values to a float32 tensor (uint8 for the uint8 encoding) of a shape, in new memory.

    Never allocates more memory than the shape needs.

    Raises:
        ValueError: if the payload does not hold exactly the values of this shape.
    """
    num_values = int(np.prod(shape, dtype=np.int64))
    expected = payload_bytes(encoding, num_values)
    if expected is not None and len(packed.payload) != expected:
        raise ValueError(f"{encoding.name} of shape {list(shape)} needs {expected} bytes, got {len(packed.payload)}")
    out = torch.empty(shape, dtype=torch.uint8 if encoding is Encoding.UINT8 else torch.float32)
    flat = out.view(-1).numpy()  # in memory aligned by torch, kernels give the same bits as on the edge
    if encoding is Encoding.UINT8:
        flat[:] = np.frombuffer(packed.payload, np.uint8)
    elif encoding is Encoding.FLOAT32:
        flat[:] = np.frombuffer(packed.payload, "<f4")
    elif encoding is Encoding.FLOAT16:
        flat[:] = np.frombuffer(packed.payload, "<f2")
    elif encoding is Encoding.INT8:
        np.subtract(np.frombuffer(packed.payload, np.int8), np.float32(packed.zero), out=flat)
        flat *= np.float32(packed.scale)
    else:
        flat[:] = _from_planes(_inflate(packed.payload, 4 * num_values))
    return out


def _half(floats: npt.NDArray[np.float32]) -> bytes:
    largest = float(np.abs(floats).max(initial=0.0))
    if largest > _FLOAT16_MAX:
        raise ValueError(f"float16 ends at {_FLOAT16_MAX:.0f}, got {largest:g}; send the features as float32")
    return floats.astype("<f2").tobytes()


def _quantized(floats: npt.NDArray[np.float32]) -> Packed:
    """Encode in affine int8 over the range of the values and 0, so that 0 stays exact; errors are at most scale / 2."""
    low, high = float(floats.min(initial=0.0)), float(floats.max(initial=0.0))
    if not np.isfinite(high - low):
        raise ValueError("int8 needs finite features, got an infinity or NaN; send the features as float32")
    step, zero, codes = _INT8.encode(torch.from_numpy(np.ascontiguousarray(floats)).reshape(1, -1), _AT)
    levels = (codes ^ 0x80).view(np.int8)  # training has levels from 0, the wire from -128
    return Packed(payload=levels.tobytes(), scale=float(step[0]), zero=int(zero[0]) - 128)


def _planes(floats: npt.NDArray[np.float32]) -> bytes:
    """Return all first bytes, then all second bytes, ...: neighboring exponents compress better."""
    return np.ascontiguousarray(floats.reshape(-1).view(np.uint8).reshape(-1, 4).T).tobytes()


def _from_planes(raw: bytes) -> npt.NDArray[np.float32]:
    return (
        np.ascontiguousarray(np.frombuffer(raw, np.uint8).reshape(4, -1).T).reshape(-1).view("<f4").astype(np.float32)
    )


def _inflate(payload: bytes | memoryview, num_bytes: int) -> bytes:
    """Decompress exactly `num_bytes`; refuse a stream with more without decompressing the rest."""
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(payload, num_bytes)
        rest = b"" if stream.eof else stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error as error:
        raise ValueError(f"the payload is not a zlib stream: {error}") from error
    if len(raw) != num_bytes or rest or not stream.eof or stream.unused_data:
        raise ValueError(f"the zlib stream does not hold exactly {num_bytes} bytes")
    return raw
