"""A device that measures how long it computes, for the account of time and energy."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch

from raysplit.cluster.device import Device, Work, WorkKind


def processor_time(torch_device: str) -> Callable[[], float]:
    """Return a clock in seconds that does not count waiting: this thread's CPU time, or the time of CUDA's queue."""
    return time.thread_time if torch_device == "cpu" else _cuda_time


def _cuda_time() -> float:
    torch.cuda.synchronize()
    return time.perf_counter()


class MeteredDevice:
    """A device that passes work on to another and adds up the seconds by kind of work."""

    def __init__(self, device: Device, clock: Callable[[], float]) -> None:
        self.seconds: Counter[WorkKind] = Counter()
        self._device = device
        self._clock = clock

    async def run(self, work: Work, compute: Callable[[], Any]) -> Any:
        def timed() -> Any:
            started = self._clock()
            result = compute()
            self.seconds[work.kind] += self._clock() - started  # type: ignore[assignment]
            return result

        return await self._device.run(work, timed)
