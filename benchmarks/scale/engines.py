"""How fast the engines of the simulator are, in turns: CPU seconds, events and peak memory as JSON lines.

    python benchmarks/scale/engines.py --owners 100 1000 10000 --repeats 3 --before ../raysplit-before
    python benchmarks/scale/engines.py --owners 1000000 --batches 32 --engines compiled

MP-SL of ResNet-101 with four nodes. Every simulation runs in a process of its own, whose CPU seconds and memory count
from its start to its end; ``call_cpu_s`` is the simulation alone. ``--before`` names a checkout of another version,
whose only engine runs in turn with those of this one.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

CUTS = [2, 10, 18, 26, 35]  # four nodes
HERE = Path(__file__).resolve().parents[2]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--owners", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--batches", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--engines", nargs="+", default=["reference", "compiled"])
    parser.add_argument("--before", type=Path, help="A checkout of another version.")
    parser.add_argument("--one", help="Run one simulation here, with this engine.")
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(one(arguments.one, arguments.owners[0], arguments.batches)), flush=True)
        return
    for owners in arguments.owners:
        for repeat in range(arguments.repeats):
            for engine in [*arguments.engines, *(["before"] if arguments.before else [])]:
                tree = arguments.before if engine == "before" else HERE
                command = [sys.executable, "-W", "ignore", __file__, "--one", engine]
                command += ["--owners", str(owners), "--batches", str(arguments.batches)]
                environment = {**os.environ, "PYTHONPATH": str(tree.resolve())}
                done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
                row = (
                    done.stdout.strip().splitlines()[-1]
                    if done.returncode == 0
                    else json.dumps({"error": done.stderr[-300:]})
                )
                print(json.dumps({"repeat": repeat, **json.loads(row)}), flush=True)


def one(engine: str, owners: int, batches: int) -> dict[str, Any]:
    """Simulate one round of so many owners with so many batches each."""
    import raysplit

    if engine == "before":
        config, simulation = (importlib.import_module(f"raysplit.train.{name}") for name in ("config", "simulate"))
        began_s, began_wall_s = time.process_time(), time.perf_counter()
        found = simulation.simulate(config.check_config(tree(owners, batches)))
        num_events = len(found.log)
    else:
        from raysplit.config.build import build_dry
        from raysplit.config.run import check_config
        from raysplit.prediction.simulate import simulate as simulate_with

        began_s, began_wall_s = time.process_time(), time.perf_counter()
        experiment = build_dry(check_config(tree(owners, batches)))
        found = simulate_with(experiment, engine=engine)
        num_events = found.num_events
    ended_s, ended_wall_s = time.process_time(), time.perf_counter()
    return {
        "engine": engine,
        "version": raysplit.__version__,
        "owners": owners,
        "batches": batches,
        "nodes": len(CUTS) - 1,
        "num_events": num_events,
        "round_s": found.round_s[0],
        "call_cpu_s": round(ended_s - began_s, 2),
        "call_wall_s": round(ended_wall_s - began_wall_s, 2),
        "process_cpu_s": round(ended_s, 2),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def tree(owners: int, batches: int) -> dict[str, Any]:
    """The configuration of a round."""
    link = {"bandwidth_mbit_per_s": 8}
    return {
        "model": {"name": "resnet101_mpsl"},
        "partition": {"name": "iid", "num_owners": owners},
        "algorithm": {"name": "mpsl", "cuts": CUTS},
        "training": {"batch_size": 128},
        "topology": {
            "devices": {
                "pi": {"profile": "resnet101_mpsl_d1", **link},
                "vm": {"profile": "resnet101_mpsl_vm", "bandwidth_mbit_per_s": 7130},
            },
            "owners": "pi",
            "nodes": ["vm"] * (len(CUTS) - 1),
            "aggregator": "pi",
            "samples_per_owner": batches * 128,
        },
    }


if __name__ == "__main__":
    main()
