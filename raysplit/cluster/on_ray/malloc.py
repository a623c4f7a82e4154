"""The C library's allocator, which gives freed memory back to the system and fetches it again for the next batch.

In a process's first thread glibc learns to keep what tensors free. A place works in another thread, where it unmaps
every larger tensor at once, and each batch then waits for the system to map and clear the same pages again (eight to
ten page faults per sample of a small CNN, a tenth of its processor time).
"""

from __future__ import annotations

import ctypes
import os

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # from malloc.h
_KEPT_BYTES = 256 * 2**20
_LARGEST_IN_HEAP_BYTES = 32 * 2**20  # the most that glibc takes
_OWN_SETTINGS = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Have this process keep up to 256 MiB of what it frees; whether that was arranged.

    It is not where the C library has no such setting (it is not glibc), nor where the environment holds settings of
    its user's own.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None or any(name in os.environ for name in _OWN_SETTINGS):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT_BYTES) and mallopt(_MMAP_THRESHOLD, _LARGEST_IN_HEAP_BYTES))
