"""What pipelining over processes costs: MP-SL on Ray against one plain process, ResNet-18 for CIFAR, batches of 32.

    python benchmarks/mpsl/pipelining.py [--owners 4] [--steps 16] [--repeats 1]

CPU efficiency: CPU seconds per sample of the plain process over those of all Ray processes together (driver, raylet,
GCS and places). Speed: samples per second of a round against the plain process. One JSON line per number of nodes.

The model is profiled first, and the profile goes into the configuration (``topology.devices``, ``pace: false``): by it
the parties are spread over the two processes, as in any run with a profile, and the speed is predicted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import torch.nn.functional as F

from raysplit.cluster.on_ray.connect import RayOptions, connect, disconnect
from raysplit.config.build import build, build_dry
from raysplit.config.run import RunConfig, check_config
from raysplit.models.profiler import measure_profile
from raysplit.models.spec import ModelSpec
from raysplit.models.zoo import build_model
from raysplit.prediction.dry_setting import reference_profile
from raysplit.prediction.simulate import simulate
from raysplit.runs.callback import Callback
from raysplit.seeding import torch_generator
from raysplit.training.cluster import ray_layout
from raysplit.training.loop import run

BATCH = 32
CUTS = {2: [1, 3, 5], 3: [1, 2, 3, 5]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--owners", type=int, default=4)
    parser.add_argument("--steps", type=int, default=16, help="batches of every owner in a round")
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="rq", dir="/tmp"))
    resources = connect(RayOptions(address="local", num_cpus=2, temp_dir=str(folder)))
    try:
        profile = _profile(folder)
        for num_nodes, cuts in [item for _ in range(arguments.repeats) for item in CUTS.items()]:
            plain = [_plain(arguments.steps)]
            pipelined = _pipelined(_config(cuts, arguments.owners, arguments.steps, profile), resources)
            plain.append(_plain(arguments.steps))
            cpu, wall = (sum(values) / 2 for values in zip(*plain, strict=True))
            record = {
                "nodes": num_nodes,
                "plain_cpu_s_per_sample": round(cpu, 5),
                "plain_samples_per_s": round(1 / wall, 1),
                "ray_cpu_s_per_sample": round(pipelined[0], 5),
                "ray_samples_per_s": round(1 / pipelined[1], 1),
                "cpu_efficiency": round(cpu / pipelined[0], 3),
                "speed": round(wall / pipelined[1], 3),
                "predicted_speed": round(pipelined[2], 3),
                "places": pipelined[3],
                "load_average": os.getloadavg()[0],
            }
            print(json.dumps(record), flush=True)
    finally:
        disconnect()
        shutil.rmtree(folder, ignore_errors=True)


def _plain(steps: int) -> tuple[float, float]:
    """CPU and wall seconds per sample of a training loop without anything around it."""
    model = ModelSpec(name="resnet18_cifar", input_shape=(3, 32, 32), num_classes=10, seed=0).build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    gen = torch_generator(0, "benchmark")
    x, y = torch.randn(BATCH, 3, 32, 32, generator=gen), torch.randint(10, (BATCH,), generator=gen)
    cpu = wall = 0.0
    for step in range(steps + 1):
        if step == 1:  # the first one allocates
            cpu, wall = time.process_time(), time.perf_counter()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    samples = steps * BATCH
    return (time.process_time() - cpu) / samples, (time.perf_counter() - wall) / samples


class _Meter(Callback):
    """Watches a run: CPU seconds of all processes, and wall seconds of its rounds, the first left out."""

    def __init__(self) -> None:
        self.cpu_s: list[float] = []

    def round_ended(self, row: Any) -> None:
        self.cpu_s.append(_cpu_s())


def _cpu_s() -> float:
    total = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def _profile(folder: Path) -> str:
    path = folder / "resnet18_cifar.parquet"
    network = build_model("resnet18_cifar", input_shape=(3, 32, 32), num_classes=10)
    found = measure_profile(network, name="resnet18_cifar", input_shape=(3, 32, 32), batch_size=BATCH, repeats=7)
    found.to_parquet(path)
    return str(path)


def _config(cuts: list[int], owners: int, steps: int, profile: str) -> RunConfig:
    return check_config(
        {
            "model": {"name": "resnet18_cifar"},
            "data": {
                "name": "random",
                "num_classes": 10,
                "num_samples": 2 * owners * steps * BATCH,  # some are kept for tests
                "input_shape": [3, 32, 32],
            },
            "partition": {"name": "iid", "num_owners": owners},
            "algorithm": {"name": "mpsl", "cuts": cuts},
            "training": {"rounds": 3, "batch_size": BATCH, "max_steps": steps},
            "evaluation": {"every": 100},
            "topology": {
                "devices": {"core": {"profile": profile}},
                "owners": "core",
                "nodes": ["core"] * (len(cuts) - 1),
                "pace": False,
                "samples_per_owner": steps * BATCH,
            },
            "cluster": {"places": 2},
        }
    )


def _pipelined(config: RunConfig, resources: dict[str, float]) -> tuple[float, float, float, str]:
    """CPU and wall seconds per sample, the predicted speed, and who is in which process."""
    from raysplit.cluster.on_ray.cluster import RayCluster

    experiment, meter = build(config), _Meter()
    layout = ray_layout(experiment, resources)
    result = asyncio.run(run(experiment, RayCluster(layout), callbacks=[meter]))
    places = dict(layout(build_dry(config).begin().parties()).place_of)
    assert config.topology is not None
    units = reference_profile(config.topology).units
    plain_s = sum(unit.forward_ms + unit.backward_ms + unit.update_ms for unit in units) / 1e3
    num_batches = config.partition.num_owners * (config.training.max_steps or 0)
    predicted = num_batches * plain_s / simulate(build_dry(config), places=places).round_s[0]
    samples = num_batches * BATCH
    cpu = meter.cpu_s[1] - meter.cpu_s[0]
    together = "; ".join(
        ", ".join(party for party, there in places.items() if there == place) for place in sorted(set(places.values()))
    )
    return cpu / samples, result.rows[1]["seconds"] / samples, predicted, together


if __name__ == "__main__":
    main()
