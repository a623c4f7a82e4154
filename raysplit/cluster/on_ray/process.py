"""What a place sets up in its process: an allocator that keeps freed memory, and labeled log lines.

In the first thread of a process, glibc adapts and keeps the memory of freed tensors. A place works in another thread,
where larger tensors are unmapped at once, and each batch waits for the system to map and clear the same pages again
(eight to ten page faults per sample of a small CNN, a tenth of its processor time).

Ray stores the standard error of a place on the place's machine, in the logs of the session.
"""

from __future__ import annotations

import ctypes
import logging
import os

from raysplit.cluster.contract import COORDINATOR, current_party

FORMAT = "%(asctime)s %(levelname)s [%(place)s %(party)s] %(name)s: %(message)s"

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # from malloc.h
_KEPT_BYTES = 256 * 2**20
_LARGEST_IN_HEAP_BYTES = 32 * 2**20  # the largest value that glibc accepts
_OWN_SETTINGS = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def keep_freed_memory() -> bool:
    """Let this process keep up to 256 MiB of freed memory, and return whether this was set.

    Nothing is set if the C library is not glibc, or if the environment has allocator settings of the user.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None or any(name in os.environ for name in _OWN_SETTINGS):
        return False
    return bool(mallopt(_TRIM_THRESHOLD, _KEPT_BYTES) and mallopt(_MMAP_THRESHOLD, _LARGEST_IN_HEAP_BYTES))


class Labels(logging.Filter):
    """A filter that adds the names of the place and of the running party to every record."""

    def __init__(self, place: str) -> None:
        super().__init__()
        self._place = place

    def filter(self, record: logging.LogRecord) -> bool:
        party = current_party.get()
        record.place = self._place
        record.party = "-" if party == COORDINATOR else party  # the place itself
        return True


def label_logs(place: str) -> None:
    """Write the log of raysplit in this process to standard error, with a line per owner and round."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(FORMAT))
    handler.addFilter(Labels(place))
    logger = logging.getLogger("raysplit")
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
