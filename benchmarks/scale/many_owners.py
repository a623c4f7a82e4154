"""FedAvg of many small owners against a plain loop in one process: rounds in turn, ratios with their spread.

Each of 100 owners of a cohort trains the small CNN for one step on 4 samples of 8x8 pixels. The same training runs as
a plain loop in this process (one model, weights copied in for each owner, a running sum in double precision), on
`LocalCluster` and on `RayCluster`, one round of each in turn, so that whatever else the machine does hits all alike.
``--vectorize 64`` computes up to 64 owners of a process at once; the plain loop stays a loop.

    python benchmarks/scale/many_owners.py [--owners 100] [--places 2] [--rounds 15] [--vectorize 64]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import psutil
import torch

from raysplit.actors.parts.losses import cross_entropy
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.fedavg.fedavg import FedAvg
from raysplit.algorithms.setting import Setting
from raysplit.cluster.contract import Cluster
from raysplit.cluster.layout import lay_out
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.on_ray.connect import RayOptions, connect, disconnect
from raysplit.config.build import build
from raysplit.config.run import RunConfig, check_config
from raysplit.seeding import generator

COHORT = 100
SAMPLES_PER_OWNER = 4
Round = Callable[[int], Awaitable[None]]


def configure(num_owners: int, vectorize: int = 1) -> RunConfig:
    """The configuration of one size; the data are drawn from the seed."""
    num_samples = 5 * SAMPLES_PER_OWNER * num_owners // 4  # a fifth is kept for testing
    return check_config(
        {
            "model": {"name": "cnn8"},
            "data": {"name": "random", "num_samples": num_samples, "input_shape": [1, 8, 8]},
            "partition": {"name": "iid", "num_owners": num_owners},
            "algorithm": {"name": "fedavg"},
            "training": {
                "batch_size": SAMPLES_PER_OWNER,
                "cohort_size": min(COHORT, num_owners),
                "vectorize": vectorize,
            },
        }
    )


def cohort(setting: Setting, number: int) -> list[str]:
    """The owners of a round, as many as there are up to 100, the next ones each round."""
    names = list(setting.owners)
    size = min(COHORT, len(names))
    first = number * size % len(names)
    return [names[(first + i) % len(names)] for i in range(size)]


class Plain:
    """The same training written down without raysplit's parties: one module, one loop, a running mean."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._model = setting.spec.build()
        self._weights = {key: value.clone() for key, value in self._model.state_dict().items()}
        self._model.train()

    async def round(self, number: int) -> None:
        names = cohort(self._setting, number)
        sgd = torch.optim.SGD(self._model.parameters(), lr=0.01)
        total = {key: torch.zeros_like(value, dtype=torch.float64) for key, value in self._weights.items()}
        for name in names:
            self._model.load_state_dict(self._weights)
            data, gen = self._setting.owners[name], torch.Generator().manual_seed(0)
            order = torch.from_numpy(generator(0, name, number).permutation(len(data.shard)))
            samples = data.shard.take(order[:SAMPLES_PER_OWNER])
            cross_entropy(self._model(data.transform(samples.x, gen)), samples.y).backward()
            sgd.step()
            sgd.zero_grad()
            for key, value in self._model.state_dict().items():
                total[key] += value
        self._weights = {key: (value / len(names)).float() for key, value in total.items()}


async def on_cluster(cluster: Cluster, algorithm: Algorithm) -> Round:
    algorithm.attach(await cluster.deploy(algorithm.parties()))

    async def round(number: int) -> None:
        await algorithm.round(algorithm.context(number, cohort(algorithm.setting, number)))

    return round


def cpu_seconds(root: psutil.Process) -> float:
    """User and system time of a process and all its descendants, now."""
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        try:
            times = process.cpu_times()
            total += times.user + times.system
        except psutil.Error:
            continue
    return total


async def compare(config: RunConfig, rounds: int, places: int) -> dict[str, Any]:
    from raysplit.cluster.on_ray.cluster import RayCluster

    setting = build(config).setting
    ray = RayCluster(partial(lay_out, num_places=places, cpus=float(places)))
    runs: dict[str, Round] = {
        "plain": Plain(setting).round,
        "local": await on_cluster(LocalCluster(), FedAvg(setting)),
        "ray": await on_cluster(ray, FedAvg(setting)),
    }
    me = psutil.Process()
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu = dict.fromkeys(runs, 0.0)
    try:
        for number in range(rounds + 2):
            for name, one in runs.items():
                cpu_before, before = cpu_seconds(me), time.perf_counter()
                await one(number)
                if number >= 2:  # the first rounds warm up
                    wall[name].append(time.perf_counter() - before)
                    cpu[name] += cpu_seconds(me) - cpu_before
    finally:
        await ray.close()
    return {
        "owners": len(setting.owners),
        "places": places,
        "vectorize": setting.vectorize,
        "ms": {name: round(1000 * statistics.median(values), 1) for name, values in wall.items()},
        "cpu_ms": {name: round(1000 * value / rounds, 1) for name, value in cpu.items()},
        **{name: spread(wall["plain"], wall[name]) for name in ("local", "ray")},
    }


def spread(plain: list[float], other: list[float]) -> list[float]:
    """Speed relative to plain, round by round: median, lowest and highest of the middle half."""
    ratios = [p / o for p, o in zip(plain, other, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return [round(value, 3) for value in (middle, low, high)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--owners", type=int, nargs="+", default=[100, 1000, 10_000])
    parser.add_argument("--places", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--vectorize", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    connect(RayOptions(address="local"))
    try:
        for owners in arguments.owners:
            config = configure(owners, arguments.vectorize)
            print(json.dumps(asyncio.run(compare(config, arguments.rounds, arguments.places))), flush=True)
    finally:
        disconnect()


if __name__ == "__main__":
    main()
