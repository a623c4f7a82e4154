"""Predicted against measured rounds of MP-SL on Ray: profile, simulate, train; paced like described machines, and not.

    python benchmarks/mpsl/prediction.py [--places 2] [--only paced|unpaced]

Paced runs are described as so many times slower than this machine that it can act them out. Unpaced runs take what
they take; the prediction then knows only the profile, which parties share a process, and one guess at what a message
costs. Prints one JSON line per run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch

from raysplit.cluster.launch import RayOptions, connect, disconnect
from raysplit.cluster.topology import lay_out
from raysplit.data.streams import torch_generator
from raysplit.models.profiler import measure_profile
from raysplit.models.zoo import build_model
from raysplit.train.config import RunConfig, check_config
from raysplit.train.prediction import Pacing
from raysplit.train.run import run
from raysplit.train.setup import prepare

BATCH = 32
MODELS: dict[str, dict[str, Any]] = {
    "cnn8": {"shape": (1, 8, 8), "classes": 10, "data": {"name": "digits"}, "slowdown": 300, "mbit_per_s": 2},
    "resnet18_cifar": {
        "shape": (3, 32, 32),
        "classes": 10,
        "data": {"name": "random", "num_classes": 10, "num_samples": 2048, "input_shape": [3, 32, 32]},
        "slowdown": 6,
        "mbit_per_s": 100,
    },
}
CASES = [  # model, cuts, owners, batches per owner and round
    ("cnn8", [1, 2, 3], 2, 6),
    ("cnn8", [1, 2, 3], 4, 6),
    ("cnn8", [1, 2, 3, 4], 4, 6),
    ("cnn8", [1, 2, 3, 4], 8, 4),
    ("resnet18_cifar", [1, 2, 4], 2, 2),
    ("resnet18_cifar", [1, 2, 3, 4], 4, 2),
    ("resnet18_cifar", [1, 2, 3, 4], 8, 2),
    ("resnet18_cifar", [1, 2, 3, 4, 5], 4, 2),
]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--places", type=int, default=2)
    parser.add_argument("--only", choices=["paced", "unpaced"])
    parser.add_argument("--model", choices=list(MODELS))
    parser.add_argument("--slowdown", type=float, default=1.0, help="describe machines slower by this factor")
    parser.add_argument("--least-owners", type=int, default=0, help="only cases with so many owners or more")
    parser.add_argument("--rounds", type=int, default=3, help="the first is left out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="rp", dir="/tmp"))
    profiles = {name: _profile(name, folder) for name in MODELS if arguments.model in (None, name)}
    resources = connect(RayOptions(address="local", num_cpus=arguments.places, temp_dir=str(folder / "ray")))
    from raysplit.cluster.ray import Places

    places = Places()
    errors: dict[str, list[float]] = {"paced": [], "unpaced": []}
    try:
        for kind in errors if arguments.only is None else [arguments.only]:
            for case in CASES:
                if arguments.model not in (None, case[0]) or case[2] < arguments.least_owners:
                    continue
                slowdown = MODELS[case[0]]["slowdown"] * arguments.slowdown if kind == "paced" else 1.0
                config = _config(*case, profiles[case[0]], rounds=arguments.rounds, slowdown=slowdown)
                record = _measure(config, places, resources, arguments.places)
                errors[kind].append(abs(record["error"]))
                print(json.dumps({"kind": kind, **record}), flush=True)
    finally:
        places.close()
        disconnect()
        shutil.rmtree(folder, ignore_errors=True)
    means = {kind: statistics.mean(found) for kind, found in errors.items() if found}
    print(json.dumps({"mean_absolute_error": means, "load_average": os.getloadavg()}))


def _profile(name: str, folder: Path) -> str:
    """Measured here and now: whatever else runs on this machine is in it."""
    model = MODELS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=torch_generator(0, name))))
        network = build_model(name, input_shape=model["shape"], num_classes=model["classes"])
    found = measure_profile(network, name=name, input_shape=model["shape"], batch_size=BATCH, repeats=15)
    path = folder / f"{name}.parquet"
    found.to_parquet(path)
    return str(path)


def _measure(config: RunConfig, places: Any, resources: dict[str, float], num_places: int) -> dict[str, Any]:
    from raysplit.cluster.ray import RayCluster

    assert config.topology is not None
    layout = partial(lay_out, num_places=num_places, cpus=resources["CPU"])
    pacing = Pacing(config, config.topology, layout)
    cluster = RayCluster(layout, places=places, emulate=pacing.emulate)
    prepared = prepare(config)
    result = asyncio.run(run(config, prepared, cluster))
    comparison, _ = pacing.compared(result.rows, cluster.log, [len(part) for part in prepared.parts])
    predicted, measured = comparison.round_s
    return {
        "model": config.model.name,
        "hops": len(config.topology.nodes),
        "owners": config.partition.num_owners,
        "predicted_s": round(predicted, 3),
        "measured_s": round(measured, 3),
        "error": round(comparison.error, 4),
    }


def _config(
    name: str, cuts: list[int], owners: int, batches: int, profile: str, *, rounds: int, slowdown: float
) -> RunConfig:
    model = MODELS[name]
    pace = slowdown > 1
    rate = model["mbit_per_s"] if pace else None
    device = {"profile": profile, "slowdown": slowdown}
    message = {} if pace else {"latency_ms": 0.8}  # both ends of a call between processes
    return check_config(
        {
            "model": {"name": name},
            "data": model["data"],
            "partition": {"name": "iid", "num_owners": owners},
            "algorithm": {"name": "mpsl", "cuts": cuts},
            "training": {"rounds": rounds, "batch_size": BATCH, "max_steps": batches},
            "evaluation": {"every": 100},
            "topology": {
                "devices": {
                    "owner": {**device, **message, "bandwidth_mbit_per_s": rate},
                    "node": {**device, **message, "bandwidth_mbit_per_s": rate and 10 * rate},
                },
                "owners": "owner",
                "nodes": ["node"] * (len(cuts) - 1),
                "pace": pace,
            },
        }
    )


if __name__ == "__main__":
    main()
