"""What a message costs on a machine beside computing, for the prediction of runs that are not paced.

Two parties send a tensor back and forth, on any cluster. Between processes a round trip takes two latencies, twice the
time of the bytes, and the call itself; within a process it takes the call alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from raysplit.cluster.contract import Cluster, PartySpec

SIZES_BYTES = (2**12, 2**16, 2**20, 2**22)
"""Sizes of the tensors that are sent: from a few samples of a small model to a batch of a large one."""
_WARM_UP = 10


@dataclass(frozen=True, kw_only=True)
class MessageCosts:
    """Settings of a device of a topology that describe messages between processes of one machine.

    Attributes:
        step_overhead_ms: the time of a call beside what it computes.
        latency_ms: the time that the smallest message takes beyond the call.
        bandwidth_mbit_per_s: the rate of larger ones.
    """

    step_overhead_ms: float
    latency_ms: float
    bandwidth_mbit_per_s: float


class Sender:
    """A party that times round trips."""

    def __init__(self, *, name: str) -> None:
        self.name = name

    async def time_trips(self, receiver: Any, size_bytes: int, repeats: int) -> float:
        """Return the median seconds in which a tensor of so many bytes goes to the receiver and back."""
        tensor, took_s = torch.ones(size_bytes // 4), []
        for _ in range(_WARM_UP + repeats):
            began_s = time.perf_counter()
            await receiver.send_back(tensor)
            took_s.append(time.perf_counter() - began_s)
        return median(took_s[_WARM_UP:])


class Receiver:
    """A party that returns what it gets."""

    def __init__(self, *, name: str) -> None:
        self.name = name

    async def send_back(self, value: Tensor) -> Tensor:
        """Return the value."""
        return value


async def round_trips(cluster: Cluster, *, repeats: int) -> dict[int, float]:
    """Return the median seconds of a round trip between two parties on a cluster, by the size of the tensor in bytes.

    Args:
        cluster: a cluster without parties.
        repeats: timed round trips of each size.
    """
    sender = PartySpec(name="sender", role="owner", build=Sender)
    receiver = PartySpec(name="receiver", role="node", build=Receiver)
    handles = await cluster.deploy([sender, receiver])
    time_trips, receiving = handles["sender"].time_trips, handles["receiver"]
    return {size: await time_trips(receiving, size, repeats) for size in SIZES_BYTES}


def costs_of(apart_s: Mapping[int, float], within_s: Mapping[int, float]) -> MessageCosts:
    """Return the costs of messages from the seconds of round trips by size: between processes, and within one.

    The rate is that between the smallest and the largest size. It is that of moving the bytes and packing them.
    """
    smallest, largest = min(apart_s), max(apart_s)
    call_s = median(within_s.values())
    per_byte_s = max((apart_s[largest] - apart_s[smallest]) / (largest - smallest) / 2, 1e-12)
    latency_s = (apart_s[smallest] - call_s) / 2 - smallest * per_byte_s
    return MessageCosts(
        step_overhead_ms=call_s * 1e3,
        latency_ms=max(latency_s, 0.0) * 1e3,
        bandwidth_mbit_per_s=8e-6 / per_byte_s,
    )
