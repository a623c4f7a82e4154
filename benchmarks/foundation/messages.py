"""What a message costs: an owner-node-owner round trip through handles against bare numpy between two Ray actors.

The node sends back what it got. It is bare twice: as an async actor, which places are since parties wait for one
another in them, and as a plain one that runs one call at a time. The three kinds of round trip are interleaved, each
between two processes of its own, so that none finds its processes warmer than the others do; printed are medians in
milliseconds and ratios with quartiles.

    python benchmarks/foundation/messages.py [--repeats 60]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from functools import partial
from typing import Any

import numpy as np
import torch

from raysplit.cluster.contract import PartySpec
from raysplit.cluster.layout import lay_out
from raysplit.cluster.on_ray.connect import RayOptions, connect, disconnect

SIZES_BYTES = (64 * 2**10, 2**20, 8 * 2**20)


class Owner:
    """Drives the round trips, as data owners drive their batches."""

    def __init__(self, *, name: str) -> None:
        self.name = name
        self._tensor = torch.zeros(0)

    async def round_trip(self, node: Any, size_bytes: int) -> float:
        if self._tensor.numel() * 4 != size_bytes:
            self._tensor = torch.ones(size_bytes // 4)
        started = time.perf_counter()
        await node.answer(self._tensor)
        return time.perf_counter() - started


class Node:
    def __init__(self, *, name: str) -> None:
        self.name = name

    async def answer(self, value: torch.Tensor) -> torch.Tensor:
        return value


class BareNode:
    def answer(self, value: np.ndarray) -> np.ndarray:
        return value


class BareAsyncNode:
    async def answer(self, value: np.ndarray) -> np.ndarray:
        return value


class BareOwner:
    async def round_trip(self, node: Any, size_bytes: int) -> float:
        if getattr(self, "_array", np.zeros(0)).nbytes != size_bytes:
            self._array = np.ones(size_bytes // 4, np.float32)
        started = time.perf_counter()
        await node.answer.remote(self._array)
        return time.perf_counter() - started


async def compare(repeats: int) -> list[dict[str, Any]]:
    import ray

    from raysplit.cluster.on_ray.cluster import RayCluster

    cluster = RayCluster(partial(lay_out, num_places=2, cpus=1, sharing="alone"))
    specs = [PartySpec(name="owner", role="owner", build=Owner), PartySpec(name="node", role="node", build=Node)]
    handles = await cluster.deploy(specs)
    bare = {"async": ray.remote(BareAsyncNode).remote(), "plain": ray.remote(BareNode).remote()}
    bare_owners = {kind: ray.remote(BareOwner).remote() for kind in bare}
    rows = []
    try:
        for size in SIZES_BYTES:
            times: dict[str, list[float]] = {"raysplit": [], **{kind: [] for kind in bare}}
            for i in range(repeats + 10):
                took = {"raysplit": await handles["owner"].round_trip(handles["node"], size)}
                took |= {kind: await bare_owners[kind].round_trip.remote(node, size) for kind, node in bare.items()}
                if i >= 10:
                    for kind, seconds in took.items():
                        times[kind].append(seconds)
            rows.append({"size_kib": size // 1024, **figures(times)})
    finally:
        await cluster.close()
    return rows


def figures(times: dict[str, list[float]]) -> dict[str, Any]:
    """Medians in milliseconds, and ours over each bare kind: ratio of medians, quartiles of the ratios."""
    found: dict[str, Any] = {f"{kind}_ms": round(statistics.median(ts) * 1e3, 3) for kind, ts in times.items()}
    for kind in times.keys() - {"raysplit"}:
        ratios = [a / b for a, b in zip(times["raysplit"], times[kind], strict=True)]
        found[f"ratio_to_{kind}"] = round(statistics.median(times["raysplit"]) / statistics.median(times[kind]), 3)
        found[f"quartiles_to_{kind}"] = [round(q, 3) for q in statistics.quantiles(ratios, n=4)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=60)
    arguments = parser.parse_args()
    connect(RayOptions(address="local", num_cpus=6))
    try:
        for row in asyncio.run(compare(arguments.repeats)):
            print(json.dumps(row), flush=True)
    finally:
        disconnect()


if __name__ == "__main__":
    main()
