"""Many logical owners on one machine: time of a round, owners per second, memory and bytes, by the number of owners.

FedAvg (arXiv 1602.05629) of a small CNN, 100 owners per round, 4 samples of 8x8 pixels each, on a local Ray with one
place per CPU. Every size is a run of its own in a process of its own; memory is what its processes hold for themselves
(private pages, summed over driver, places and Ray's own processes), sampled while it runs. Results are appended as they
come: started again, it goes on with what is missing.

    python benchmarks/scale/run.py --output scale.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import psutil

SAMPLES_PER_OWNER = 4
_SAMPLE_EVERY_S = 0.5


def settings(num_owners: int, rounds: int, kind: str, places: int, vectorize: int = 1) -> dict[str, Any]:
    """The configuration of one size; the data are drawn from the seed."""
    return {
        "seed": 0,
        "model": {"name": "cnn8"},
        "data": {"name": "random", "num_samples": 5 * SAMPLES_PER_OWNER * num_owners // 4, "input_shape": [1, 8, 8]},
        "partition": {"name": "iid", "num_owners": num_owners},
        "algorithm": {"name": "fedavg"},
        "training": {
            "rounds": rounds,
            "batch_size": SAMPLES_PER_OWNER,
            "cohort_size": min(100, num_owners),
            "vectorize": vectorize,
        },
        "evaluation": {"every": rounds},
        "cluster": {"kind": kind, "num_cpus": places, "places": places, "object_store_mib": 256},
    }


def private_bytes(process: psutil.Process) -> int:
    """Private memory of a process and its descendants."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            total += each.memory_full_info().uss
        except psutil.Error:  # it has just ended
            continue
    return total


def measure(num_owners: int, rounds: int, kind: str, places: int, vectorize: int = 1) -> dict[str, Any]:
    """One run; the first round, which builds the owners' models, is told apart from the others."""
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(json.dumps(settings(num_owners, rounds, kind, places, vectorize)))
        command = [sys.executable, "-m", "raysplit", "train", str(config), "--json", "--name", "run"]
        command += ["--set", f"output.root={folder}"]
        started = time.perf_counter()
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        watched, peak = psutil.Process(running.pid), 0
        while running.poll() is None:
            peak = max(peak, private_bytes(watched))
            time.sleep(_SAMPLE_EVERY_S)
        wall_s = time.perf_counter() - started
        assert running.stdout is not None
        if running.returncode:
            raise RuntimeError(f"the run with {num_owners} owners ended with exit code {running.returncode}")
        rows = [row for line in running.stdout if "round" in (row := json.loads(line))]
    later = [row["seconds"] for row in rows[1:]]
    cohort = rows[-1]["num_owners"]
    return {
        "cohort": cohort,
        "round_s": median(later),
        "round_s_spread": [min(later), max(later)],
        "first_round_s": rows[0]["seconds"],
        "owners_per_s": cohort / median(later),
        "peak_private_mib": peak / 2**20,
        "bytes_per_round": rows[-1]["bytes"],
        "wall_s": wall_s,
    }


def report(rows: list[dict[str, Any]]) -> str:
    """A row per number of owners: medians over its runs, and the spread of all rounds but the first."""
    lines = [
        "| owners | cohort | s per round (spread) | owners/s | first round s | start to end s | peak MiB | "
        "MiB sent per round | load |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for owners in sorted({row["owners"] for row in rows}):
        runs = [row for row in rows if row["owners"] == owners]
        middle = {key: median(run[key] for run in runs) for key in runs[0] if key != "round_s_spread"}
        low, high = min(run["round_s_spread"][0] for run in runs), max(run["round_s_spread"][1] for run in runs)
        lines.append(
            f"| {owners:,} | {middle['cohort']:.0f} | {middle['round_s']:.2f} ({low:.2f}-{high:.2f}) | "
            f"{middle['owners_per_s']:,.0f} | {middle['first_round_s']:.1f} | {middle['wall_s']:.0f} | "
            f"{middle['peak_private_mib']:,.0f} | {middle['bytes_per_round'] / 2**20:.1f} | "
            f"{max(run['load'] for run in runs):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--owners", type=int, nargs="+", default=[10, 100, 1000, 10_000])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--kind", choices=["ray", "local"], default="ray")
    parser.add_argument("--places", type=int, default=2)
    parser.add_argument(
        "--output", type=Path, required=True, help="JSON lines, appended to; what is there is not redone"
    )
    arguments = parser.parse_args()
    for repeat in range(arguments.repeats):
        for num_owners in arguments.owners:
            key = {"owners": num_owners, "repeat": repeat}
            if any(key.items() <= row.items() for row in read(arguments.output)):
                continue
            load = os.getloadavg()[0]
            found = measure(num_owners, arguments.rounds, arguments.kind, arguments.places)
            line = json.dumps({**key, **found, "load": load})
            with arguments.output.open("a") as file:
                file.write(line + "\n")
            print(line, flush=True)
    print(report(read(arguments.output)))


def read(output: Path) -> list[dict[str, Any]]:
    """What has been measured so far."""
    return [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []


if __name__ == "__main__":
    main()
