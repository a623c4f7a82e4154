"""Predicted against measured rounds of MP-SL on Ray: profile, simulate, train; paced like described machines, and not.

    python benchmarks/mpsl/prediction.py [--only paced|unpaced] [--cases 0,4] [--rounds 3]

The protocol is fixed before the run, and every case is run once and reported:

* The eight `CASES`: two models, 2 to 4 nodes, 2 to 8 owners; two processes; the first round is left out.
* Paced: all devices are this machine, slower by one factor per case. The factor is the smallest of 1, 1.25, 1.25^2, ...
  at which the busier process, by the profile and the calibrated cost of a step, would compute `MOST_LOAD` of the
  predicted round at most.
* Unpaced: the prediction knows the profile, taken while the other core was computing too; who shares a process; and
  two numbers calibrated on another model (`CALIBRATION`): what a step costs beside its computing, and how long a value
  takes from one process to another.

Prints one JSON line per run, then Markdown tables.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from raysplit.cluster.layout import lay_out
from raysplit.cluster.on_ray.connect import RayOptions, connect, disconnect
from raysplit.config.build import build, build_dry
from raysplit.config.run import RunConfig, check_config
from raysplit.models.profiler import measure_profile
from raysplit.models.zoo import build_model
from raysplit.prediction.machines import expected_work
from raysplit.prediction.pacing import Pacing
from raysplit.prediction.simulate import simulate
from raysplit.seeding import torch_generator
from raysplit.training.loop import run

BATCH = 32
PLACES = 2
MOST_LOAD = 0.6
STEP = 1.25
DIGITS: dict[str, Any] = {"shape": (1, 8, 8), "data": {"name": "digits"}, "mbit_per_s": 2}
MODELS: dict[str, dict[str, Any]] = {
    "cnn8": DIGITS,
    "mlp": DIGITS,
    "resnet18_cifar": {
        "shape": (3, 32, 32),
        "data": {"name": "random", "num_classes": 10, "num_samples": 2048, "input_shape": [3, 32, 32]},
        "mbit_per_s": 100,
    },
}
CASES = [  # model, cuts, owners, batches per owner and round
    ("cnn8", [1, 2, 3], 2, 6),
    ("cnn8", [1, 2, 3], 4, 6),
    ("cnn8", [1, 2, 3, 4], 4, 6),
    ("cnn8", [1, 2, 3, 4], 8, 4),
    ("resnet18_cifar", [1, 2, 4], 2, 3),
    ("resnet18_cifar", [1, 2, 3, 4], 4, 3),
    ("resnet18_cifar", [1, 2, 3, 4], 8, 3),
    ("resnet18_cifar", [1, 2, 3, 4, 5], 4, 3),
]
CALIBRATION = {"many": ("mlp", [1, 2], 8, 6), "one": ("mlp", [1, 2], 1, 12)}
"""Little computing: eight owners keep both processes busy with steps; one owner waits for its messages."""

Measure = Callable[[RunConfig], tuple[float, float, dict[str, str], int]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=["paced", "unpaced"])
    parser.add_argument("--cases", default=",".join(map(str, range(len(CASES)))), help="numbers of cases, for trials")
    parser.add_argument("--rounds", type=int, default=3, help="the first is left out")
    arguments = parser.parse_args()
    cases = [CASES[int(number)] for number in arguments.cases.split(",")]
    torch.set_num_threads(1)
    began, folder = time.time(), Path(tempfile.mkdtemp(prefix="rp", dir="/tmp"))
    profiles = {name: _profile(name, folder) for name in ["mlp", *dict.fromkeys(case[0] for case in cases)]}
    resources = connect(RayOptions(address="local", num_cpus=PLACES, temp_dir=str(folder / "ray")))
    from raysplit.cluster.on_ray.cluster import Places

    places = Places()
    records: list[dict[str, Any]] = []
    try:
        measure = partial(_measured, places=places, cpus=resources["CPU"])
        host = _calibrated(profiles["mlp"], measure, arguments.rounds)
        print(json.dumps({"kind": "calibration", **host}), flush=True)
        for kind in ["paced", "unpaced"] if arguments.only is None else [arguments.only]:
            for case in cases:
                make = partial(_config, *case, profiles[case[0]], rounds=arguments.rounds)
                slowdown = _slowdown(make, host, resources["CPU"]) if kind == "paced" else 0.0
                record = {"kind": kind, "slowdown": round(slowdown, 2), **_compared(make, slowdown, host, measure)}
                records.append(record)
                print(json.dumps(record), flush=True)
    finally:
        places.close()
        disconnect()
        shutil.rmtree(folder, ignore_errors=True)
    _print_tables(records, time.time() - began)


# -- describing this machine ---------------------------------------------------------------------------------------


def _profile(name: str, folder: Path) -> str:
    """Measured here and now, with the other core at the same work."""
    path = folder / f"{name}.parquet"
    spawn = multiprocessing.get_context("spawn")
    at_once = [spawn.Process(target=_measure_profile, args=(name, str(path) + ending)) for ending in ("", ".other")]
    for process in at_once:
        process.start()
    for process in at_once:
        process.join()
    return str(path)


def _measure_profile(name: str, path: str) -> None:
    torch.set_num_threads(1)
    shape = MODELS[name]["shape"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=torch_generator(0, name))))
        network = build_model(name, input_shape=shape, num_classes=10)
    found = measure_profile(network, name=name, input_shape=shape, batch_size=BATCH, repeats=15)
    found.to_parquet(path)


def _calibrated(profile: str, measure: Measure, rounds: int) -> dict[str, float]:
    """What a step costs beside computing, and a value from one process to another: the simulator fitted to two runs."""
    measured: dict[str, tuple[float, dict[str, str]]] = {}
    for name, case in CALIBRATION.items():
        _, round_s, place_of, _ = measure(_config(*case, profile, rounds=rounds, slowdown=0.0, host={}))
        measured[name] = round_s, place_of
    host = {"step_overhead_ms": 0.0, "latency_ms": 0.0}
    for _ in range(3):
        for name, key in (("many", "step_overhead_ms"), ("one", "latency_ms")):
            host[key] = _fitted(CALIBRATION[name], profile, measured[name], host, key)
    return {key: round(value, 3) for key, value in host.items()}


def _fitted(
    case: tuple[str, list[int], int, int],
    profile: str,
    measured: tuple[float, dict[str, str]],
    host: dict[str, float],
    key: str,
) -> float:
    """The value of one number, between 0 and 50 ms, at which the simulated round is as long as the measured one."""
    low, high = 0.0, 50.0
    for _ in range(24):
        middle = (low + high) / 2
        config = _config(*case, profile, rounds=1, slowdown=0.0, host={**host, key: middle})
        if _simulated_s(config, measured[1]) < measured[0]:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _slowdown(make: Callable[..., RunConfig], host: dict[str, float], cpus: float) -> float:
    """The factor by the rule: whoever has most to compute is to be at it for `MOST_LOAD` of a round at most."""
    real = make(slowdown=0.0, host=host)
    parties = build_dry(real, _shards(real)).begin().parties()
    place_of = lay_out(parties, num_places=PLACES, cpus=cpus).place_of
    assert real.topology is not None
    load_s = dict.fromkeys(place_of.values(), 0.0)
    for party, seconds in (expected_work(parties, real.topology, BATCH) or {}).items():
        load_s[place_of[party]] += seconds * (real.training.max_steps or 0)
    slowdown = 1.0
    while max(load_s.values()) > MOST_LOAD * _simulated_s(make(slowdown=slowdown, host={})):
        slowdown *= STEP
    return slowdown


def _simulated_s(config: RunConfig, places: dict[str, str] | None = None) -> float:
    return simulate(build_dry(config, _shards(config)), places=places).round_s[0]


def _shards(config: RunConfig) -> list[int]:
    """As many samples as the round's batches take."""
    return [BATCH * (config.training.max_steps or 0)] * config.partition.num_owners


# -- running -------------------------------------------------------------------------------------------------------


def _compared(
    make: Callable[..., RunConfig], slowdown: float, host: dict[str, float], measure: Measure
) -> dict[str, Any]:
    config = make(slowdown=slowdown, host={} if slowdown else host)
    assert config.topology is not None
    predicted, round_s, _, num_late = measure(config)
    return {
        "model": config.model.name,
        "nodes": len(config.topology.nodes),
        "owners": config.partition.num_owners,
        "predicted_s": round(predicted, 3),
        "measured_s": round(round_s, 3),
        "error": round((predicted - round_s) / round_s, 4),
        "late_steps": num_late,
        "load_average": round(os.getloadavg()[0], 1),
    }


def _measured(config: RunConfig, *, places: Any, cpus: float) -> tuple[float, float, dict[str, str], int]:
    """Predicted and measured seconds of a round, who was where, and how many steps were late."""
    from raysplit.cluster.on_ray.cluster import RayCluster

    assert config.topology is not None
    layout = partial(lay_out, num_places=PLACES, cpus=cpus)
    experiment = build(config)
    pacing = Pacing(experiment, layout)
    cluster = RayCluster(layout, places=places, emulate=pacing.emulate)
    result = asyncio.run(run(experiment, cluster))
    comparison, _ = pacing.compared(result.rows, cluster.log)
    place_of = dict(layout(build_dry(config, _shards(config)).begin().parties()).place_of)
    num_late = sum(lateness.num_late for lateness in comparison.lateness.values())
    return *comparison.round_s, place_of, num_late


def _config(
    name: str,
    cuts: list[int],
    owners: int,
    batches: int,
    profile: str,
    *,
    rounds: int,
    slowdown: float,
    host: dict[str, float],
) -> RunConfig:
    """A run at the pace of machines slower by ``slowdown``; 0 is this machine at its own pace and costs."""
    model = MODELS[name]
    device: dict[str, Any] = {"profile": profile, "slowdown": slowdown or 1.0, **host}
    if "latency_ms" in host:
        device["latency_ms"] = host["latency_ms"] / 2  # half at either end
    rate = model["mbit_per_s"] if slowdown else None
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
                    "owner": {**device, "bandwidth_mbit_per_s": rate},
                    "node": {**device, "bandwidth_mbit_per_s": rate and 10 * rate},
                },
                "owners": "owner",
                "nodes": ["node"] * (len(cuts) - 1),
                "pace": bool(slowdown),
            },
        }
    )


def _print_tables(records: list[dict[str, Any]], took_s: float) -> None:
    for kind in dict.fromkeys(record["kind"] for record in records):
        found = [record for record in records if record["kind"] == kind]
        print(f"\n{kind}\n\n| model | nodes | owners | slowdown | predicted s | measured s | error | late steps |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for record in found:
            print(
                f"| {record['model']} | {record['nodes']} | {record['owners']} | {record['slowdown'] or '-'} | "
                f"{record['predicted_s']} | {record['measured_s']} | {record['error']:+.1%} | {record['late_steps']} |"
            )
        print(f"\nmean absolute error {statistics.mean(abs(record['error']) for record in found):.1%}")
    print(f"\n{took_s / 60:.1f} minutes in all, load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
