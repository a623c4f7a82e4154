"""Numbers of a few bits in whole bytes: number i of b bits begins at bit b*i, low bits first."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


def packed_bytes(count: int, bits: int) -> int:
    """Return the size of ``count`` numbers of ``bits`` bits."""
    return (count * bits + 7) // 8


def packed(numbers: npt.NDArray[np.unsignedinteger], bits: int) -> Bytes:
    """Pack numbers of ``bits`` bits each; up to 7 bits at the end are 0."""
    flat = numbers.reshape(-1)
    if bits == 8:
        return flat.astype(np.uint8, copy=False)
    if bits in (4, 2, 1):
        per_byte = 8 // bits
        flat = flat.astype(np.uint8, copy=False)
        if missing := -len(flat) % per_byte:
            flat = np.concatenate([flat, np.zeros(missing, np.uint8)])
        columns = flat.reshape(-1, per_byte)
        out = columns[:, 0].copy()
        for i in range(1, per_byte):
            out |= columns[:, i] << (bits * i)
        return out
    each = np.unpackbits(flat.astype("<u4").view(np.uint8).reshape(-1, 4), axis=1, bitorder="little")[:, :bits]
    return np.packbits(each.reshape(-1), bitorder="little")


def unpacked(data: Bytes, count: int, bits: int) -> npt.NDArray[np.unsignedinteger]:
    """Reverse `packed`."""
    if bits == 8:
        return data[:count]
    if bits in (4, 2, 1):
        per_byte = 8 // bits
        out = np.empty((len(data), per_byte), np.uint8)
        for i in range(per_byte):
            np.right_shift(data, bits * i, out=out[:, i])
        out &= (1 << bits) - 1
        return out.reshape(-1)[:count]
    each = np.unpackbits(data, count=count * bits, bitorder="little").reshape(count, bits)
    filled = np.zeros((count, 32), np.uint8)
    filled[:, :bits] = each
    return np.packbits(filled, axis=1, bitorder="little").view("<u4").reshape(-1)


def index_bits(size: int) -> int:
    """Return the number of bits of an index below ``size``."""
    return max(1, math.ceil(math.log2(size))) if size > 1 else 1
