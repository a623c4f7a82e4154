"""FedAvg of 10, 100 and 1,000 owners beside Flower's simulation: seconds of a round, interleaved, as ratios.

Both train the same CNN from the same weights on the same samples with as many processes (one CPU and one thread each);
100 owners a round at most, a step of 4 samples each. What is timed is a round, from the choice of its owners to their
average; the first of a run, in which processes come up, is left out. Runs of the two take turns, each in a process of
its own, and results are appended as they come: started again, it goes on with what is missing.

    python benchmarks/scale/flower.py --flower /tmp/flwr/bin/python --output flower.jsonl
    python benchmarks/scale/flower.py --output flower.jsonl --report

Flower lives in an environment of its own, since it wants an older Ray:

    uv venv --python 3.11 /tmp/flwr
    uv pip install --python /tmp/flwr/bin/python 'flwr[simulation]==1.41.0' 'torch==<ours>'
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch
from run import measure, private_bytes, read, settings

from raysplit.api import train_config
from raysplit.config.build import build
from raysplit.config.run import check_config

_SAMPLE_EVERY_S = 0.5
_LIMIT_S = 600


def write_data(path: Path, num_owners: int, rounds: int) -> None:
    """What our owners hold, as their model sees it, and the weights that they begin with."""
    config = check_config(settings(num_owners, rounds, "local", 1))
    setting = build(config).setting
    owners = list(setting.owners.values())
    gen = torch.Generator().manual_seed(0)
    x = torch.stack([owner.transform(owner.shard.x, gen) for owner in owners])
    y = torch.stack([torch.as_tensor(owner.shard.y) for owner in owners])
    weights = {f"w:{key}": value.numpy() for key, value in setting.spec.build().state_dict().items()}
    np.savez(path, x=x.numpy(), y=y.numpy(), lr=config.training.optimizer.lr, num_classes=10, **weights)


def flower(python: str, num_owners: int, rounds: int, cpus: int) -> dict[str, Any]:
    """One run of Flower's simulation."""
    cohort = min(100, num_owners)
    with tempfile.TemporaryDirectory(prefix="flower-") as folder:
        data, weights = Path(folder) / "data.npz", Path(folder) / "weights.pt"
        write_data(data, num_owners, rounds)
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTHON"))}
        environment |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "FLWR_HOME": folder}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}  # Flower's actors import it
        command = [
            python,
            "-c",
            "import flower_app; flower_app.run()",
            *map(str, (data, num_owners, rounds, cohort, cpus, weights)),
        ]
        with (Path(folder) / "log").open("w+") as log:
            running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
            watched, peak, limit_s = psutil.Process(running.pid), 0, time.monotonic() + _LIMIT_S
            while running.poll() is None and time.monotonic() < limit_s:
                peak = max(peak, private_bytes(watched))
                time.sleep(_SAMPLE_EVERY_S)
            log.seek(0)
            if running.poll() != 0:
                running.kill()
                raise RuntimeError(f"Flower has not come to its end ({running.poll()}): {log.read()[-3000:]}")
        assert running.stdout is not None
        round_s = json.loads(running.stdout.read().splitlines()[-1])["round_s"]
        distance = (
            distance_from_ours(torch.load(weights, weights_only=True), rounds) if cohort == num_owners == 10 else 0
        )
    return {"round_s": median(round_s[1:]), "peak_private_mib": peak / 2**20, "distance": distance}


def distance_from_ours(theirs: dict[str, torch.Tensor], rounds: int) -> float:
    """The largest difference between weights of the two after a run in which all owners take part."""
    config = check_config(settings(10, rounds, "local", 1))
    ours = train_config(config).states["global"]
    assert ours.keys() == theirs.keys()
    return max(float((ours[key] - theirs[key]).abs().max()) for key in ours)


def one_run(system: str, num_owners: int, rounds: int, cpus: int, python: str) -> dict[str, Any]:
    if system == "flower":
        return flower(python, num_owners, rounds, cpus)
    found = measure(num_owners, rounds, "ray", cpus, OURS[system])
    return {key: found[key] for key in ("round_s", "peak_private_mib")}


def report(rows: list[dict[str, Any]]) -> str:
    """A row per number of owners: medians, and the ratio of the runs that followed each other with its spread."""
    lines = [
        "| owners | cohort | vectorize | raysplit s per round | Flower s per round | Flower / raysplit (spread) | "
        "pairs | raysplit MiB | Flower MiB | load |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for owners in sorted({row["owners"] for row in rows}):
        by = {
            system: {r["repeat"]: r for r in rows if (r["owners"], r["system"]) == (owners, system)}
            for system in SYSTEMS
        }
        for ours, vectorize in OURS.items():
            pairs = sorted(by[ours].keys() & by["flower"].keys())
            if not pairs:
                continue
            both = (ours, "flower")
            ratios = [by["flower"][i]["round_s"] / by[ours][i]["round_s"] for i in pairs]
            times, memory = (
                [median(by[system][i][key] for i in pairs) for system in both]
                for key in ("round_s", "peak_private_mib")
            )
            load = max(by[system][i]["load"] for system in both for i in pairs)
            lines.append(
                f"| {owners:,} | {min(100, owners)} | {vectorize} | {times[0]:.3f} | {times[1]:.3f} | "
                f"{median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f}) | {len(pairs)} | {memory[0]:,.0f} | "
                f"{memory[1]:,.0f} | {load:.1f} |"
            )
    return "\n".join(lines)


OURS = {"raysplit": 1, "vectorized": 64}
"""Our two runs, with the owners of a process that are computed at once."""
SYSTEMS = (*OURS, "flower")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flower", default="/tmp/flwr/bin/python", help="the Python that has flwr")
    parser.add_argument("--owners", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True, help="JSON lines, appended to")
    parser.add_argument("--report", action="store_true", help="print the table of what is there, and measure nothing")
    arguments = parser.parse_args()
    if not arguments.report:
        for repeat in range(arguments.repeats):
            for owners in arguments.owners:
                for system in SYSTEMS if repeat % 2 == 0 else SYSTEMS[::-1]:
                    done = {(row["system"], row["owners"], row["repeat"]) for row in read(arguments.output)}
                    if (system, owners, repeat) in done:
                        continue
                    key = {"system": system, "owners": owners, "repeat": repeat, "load": os.getloadavg()[0]}
                    began_s = time.perf_counter()
                    found = one_run(system, owners, arguments.rounds, arguments.cpus, arguments.flower)
                    line = json.dumps({**key, **found, "wall_s": time.perf_counter() - began_s})
                    with arguments.output.open("a") as file:
                        file.write(line + "\n")
                    print(line, flush=True)
    print(report(read(arguments.output)))


if __name__ == "__main__":
    main()
