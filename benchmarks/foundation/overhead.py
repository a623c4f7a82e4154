"""What the cluster costs: MiniBatch-SFL and SplitFed V1 against one plain single-threaded PyTorch process.

The same training (same model, data, batches, steps) runs as a plain loop, on `LocalCluster` and on `RayCluster`, one
round of each in turn, so that whatever else the machine does hits all three alike. Per round: wall time, and CPU time
of all processes together. Printed: samples/s relative to plain, and CPU efficiency (plain CPU seconds per sample over
those of the cluster), medians with the lowest and highest round.

    python benchmarks/foundation/overhead.py [--case resnet18|cnn4|cnn|vit|text_lm] [--cut 4] [--servers 2] [--steps 12]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import psutil
import torch
from torch import nn

from raysplit.actors.parts.losses import cross_entropy
from raysplit.algorithms import resolve_algorithm
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.setting import OwnerData, Setting
from raysplit.cluster.contract import Cluster
from raysplit.cluster.layout import lay_out
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.on_ray.connect import RayOptions, connect, disconnect
from raysplit.config.build import build
from raysplit.config.run import RunConfig, check_config
from raysplit.seeding import generator

CASES: dict[str, dict[str, Any]] = {
    "resnet18": {"model": "resnet18_cifar", "shape": [3, 32, 32], "owners": 4, "steps": 12, "cuts": [1, 2, 3, 4]},
    "cnn": {"model": "cnn", "shape": [1, 28, 28], "owners": 10, "steps": 20, "cuts": [1, 2]},
    "cnn4": {"model": "cnn4", "shape": [1, 28, 28], "owners": 10, "steps": 20, "cuts": [1, 2, 3]},
    "vit": {
        "model": "timm:vit_tiny_patch16_224",
        "shape": [3, 224, 224],
        "owners": 2,
        "steps": 3,
        "batch": 8,
        "classes": 4,
        "cuts": ["blocks.3.add#2"],
    },
    "text_lm": {
        "model": "text_transformer",
        "owners": 4,
        "steps": 20,
        "batch": 16,
        "cuts": ["block1"],
        "settings": {
            "task": "language_model",
            "data": {"name": "text:python_topics", "length": 64, "owners": 4},
            "partition": {"name": "natural_id", "num_owners": 4},
        },
    },
}
Round = Callable[[int], Awaitable[int]]


def configure(case: dict[str, Any], algorithm: str, cut: int | str, servers: int) -> RunConfig:
    options = {"name": algorithm, "cut": cut, "num_servers": servers}
    batch = case.get("batch", 32)
    drawn = {
        "data": {
            "name": "random",
            "num_classes": case.get("classes", 10),
            "num_samples": case["owners"] * case["steps"] * batch * 5 // 4,  # a fifth is kept for testing
            "input_shape": case.get("shape"),
        },
        "partition": {"name": "iid", "num_owners": case["owners"]},
    }
    return check_config(
        {
            "model": {"name": case["model"]},
            "algorithm": options,
            "training": {"batch_size": batch, "max_steps": case["steps"], "optimizer": {"lr": 0.01}},
            **case.get("settings", drawn),
        }
    )


class Plain:
    """The same training written down without raysplit's parties: modules, optimisers and loops."""

    def __init__(self, setting: Setting, algorithm: Algorithm) -> None:
        self._setting = setting
        self._batch_size, self._num_steps = setting.training.batch_size, setting.max_steps
        self._loss = setting.training.loss if callable(setting.training.loss) else cross_entropy
        self._joined = algorithm.lockstep
        parts = [setting.spec.parts(algorithm.cuts) for _ in setting.owners]
        self._fronts = [p[0] for p in parts]
        self._backs = [p[1] for p in parts][: 1 if self._joined else None]
        self._owners: list[OwnerData] = list(setting.owners.values())

    async def round(self, number: int) -> int:
        front_sgd, back_sgd = [_sgd(m) for m in self._fronts], [_sgd(m) for m in self._backs]
        count = 0
        for batches in zip(*[self._batches(name, number) for name in self._setting.owners], strict=True):
            count += sum(len(x) for x, _ in batches)
            if self._joined:
                self._joint_step(list(batches), front_sgd, back_sgd[0])
            else:
                for i, (x, y) in enumerate(batches):
                    loss = self._loss(self._backs[i](self._fronts[i](x)), y)
                    loss.backward()
                    for sgd in (front_sgd[i], back_sgd[i]):
                        _step(sgd)
        _average(self._fronts)
        _average(self._backs)
        return count

    def _joint_step(self, batches: list[Any], front_sgd: list[Any], back_sgd: Any) -> None:
        outputs = [front(x) for front, (x, _) in zip(self._fronts, batches, strict=True)]
        z = torch.cat([o.detach() for o in outputs]).requires_grad_()
        self._loss(self._backs[0](z), torch.cat([y for _, y in batches])).backward()
        _step(back_sgd)
        assert z.grad is not None
        for output, g, sgd in zip(outputs, z.grad.split([len(o) for o in outputs]), front_sgd, strict=True):
            output.backward(g * (len(z) / len(output)))
            _step(sgd)

    def _batches(self, name: str, number: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Each fetched when it is needed, as any training loop does."""
        data, gen = self._setting.owners[name], torch.Generator().manual_seed(0)
        order = torch.from_numpy(generator(0, name, number).permutation(len(data.shard)))
        for indices in order.split(self._batch_size)[: self._num_steps]:
            samples = data.shard.take(indices)
            yield self._setting.spec.cast(data.transform(samples.x, gen)), samples.y  # type: ignore[misc]


def _sgd(module: nn.Module) -> torch.optim.Optimizer | None:
    parameters = list(module.parameters())
    return torch.optim.SGD(parameters, lr=0.01) if parameters else None


def _step(sgd: torch.optim.Optimizer | None) -> None:
    if sgd is not None:
        sgd.step()
        sgd.zero_grad()


def _average(modules: list[nn.Module]) -> None:
    if len(modules) < 2:
        return
    states = [m.state_dict() for m in modules]
    mean = {k: sum(s[k].double() for s in states).div(len(states)).to(v.dtype) for k, v in states[0].items()}
    for module in modules:
        module.load_state_dict(mean)


async def on_cluster(cluster: Cluster, algorithm: Algorithm) -> Round:
    algorithm.attach(await cluster.deploy(algorithm.parties()))

    async def round(number: int) -> int:
        report = await algorithm.round(algorithm.context(number, list(algorithm.setting.owners)))
        return report.num_samples

    return round


@dataclass
class Cost:
    wall_s: float
    cpu_s: float


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


async def measured(round: Round, number: int, me: psutil.Process) -> Cost:
    cpu, wall = cpu_seconds(me), time.perf_counter()
    samples = await round(number)
    return Cost((time.perf_counter() - wall) / samples, (cpu_seconds(me) - cpu) / samples)


async def compare(config: RunConfig, rounds: int, places: int) -> dict[str, Any]:
    from raysplit.cluster.on_ray.cluster import RayCluster

    kind = resolve_algorithm(config.algorithm.name)
    prepared = build(config)
    make = partial(kind, prepared.setting, config.algorithm.resolved_options())
    ray = RayCluster(partial(lay_out, num_places=places, cpus=float(os.cpu_count() or 1)))
    one = {**config.algorithm.model_dump(), "num_servers": 1}
    single = kind(prepared.setting, kind.options_type(**{k: v for k, v in one.items() if k != "name"}))
    runs: dict[str, Round] = {
        "plain": Plain(prepared.setting, single).round,
        "local": await on_cluster(LocalCluster(), single),
        "ray": await on_cluster(ray, make()),
    }
    me = psutil.Process()
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    try:
        for number in range(rounds + 1):
            for name, round in runs.items():
                cost = await measured(round, number, me)
                if number:  # the first round warms up
                    costs[name].append(cost)
    finally:
        await ray.close()
    return {name: ratios(costs["plain"], costs[name]) for name in ("local", "ray")} | {
        "plain_samples_per_s": 1 / statistics.median(c.wall_s for c in costs["plain"])
    }


def ratios(plain: list[Cost], other: list[Cost]) -> dict[str, list[float]]:
    """Speed and CPU efficiency of the other relative to plain, round by round: median, lowest, highest."""
    speed = [p.wall_s / o.wall_s for p, o in zip(plain, other, strict=True)]
    efficiency = [p.cpu_s / o.cpu_s for p, o in zip(plain, other, strict=True)]
    return {
        name: [round(v, 3) for v in (statistics.median(values), min(values), max(values))]
        for name, values in (("speed", speed), ("cpu_efficiency", efficiency))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(CASES), action="append")
    parser.add_argument("--algorithm", choices=["minibatch_sfl", "splitfed_v1"], action="append")
    parser.add_argument("--cut", type=int, action="append", help="default: all of the case's cuts")
    parser.add_argument("--servers", type=int, action="append", help="default: 1 and 2")
    parser.add_argument("--steps", type=int, help="mini-batches per owner and round; default: the case's")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--places", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    connect(RayOptions(address="local"))
    try:
        for name in arguments.case or ["resnet18", "cnn"]:
            for algorithm in arguments.algorithm or ["minibatch_sfl", "splitfed_v1"]:
                for cut in arguments.cut or CASES[name]["cuts"]:
                    for servers in arguments.servers or [1, 2]:
                        case = CASES[name] | ({"steps": arguments.steps} if arguments.steps else {})
                        config = configure(case, algorithm, cut, servers)
                        result = asyncio.run(compare(config, arguments.rounds, arguments.places))
                        row = {"case": name, "algorithm": algorithm, "cut": cut, "servers": servers}
                        print(json.dumps(row | result), flush=True)
    finally:
        disconnect()


if __name__ == "__main__":
    main()
