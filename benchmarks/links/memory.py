"""Estimated and measured memory of FedAvg with and without error feedback: a JSON line for each.

    python benchmarks/links/memory.py [--owners 1000]

`cnn8` on drawn data, all owners in each of three rounds, in one process for each line. Measured is the highest memory
that the process has written for itself, without pages of libraries that processes share, looked at ten times a second.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import threading
from pathlib import Path
from typing import Any

import raysplit
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.seeding import one_thread
from raysplit.training.preflight import expected_needs

SPARSE = {"codec": "top_k", "ratio": 0.1, "feedback": True}
CODECS: dict[str, dict[str, Any]] = {
    "none": {},
    "feedback": {"weights": "int8", "rules": [{"from": "owner-*", "kind": "weights", "codec": SPARSE}]},
}


def written_bytes() -> int:
    """Return the private memory of this process that differs from files, by Linux."""
    (line,) = [line for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if "Private_Dirty" in line]
    return int(line.split()[1]) * 1024


def measure(owners: int, codec: str) -> dict[str, Any]:
    """Train once, and compare."""
    settings = {
        "model": {"name": "cnn8"},
        "data": {"name": "random", "num_samples": 5 * owners, "input_shape": [1, 8, 8]},
        "partition": {"name": "iid", "num_owners": owners},
        "algorithm": {"name": "fedavg"},
        "training": {"rounds": 3, "batch_size": 4},
        "evaluation": {"every": 3},
        "cluster": {"kind": "local"},
        "links": CODECS[codec],
    }
    experiment = build(check_config(settings))
    algorithm = experiment.begin()
    estimated = expected_needs(experiment, algorithm, algorithm.parties(), {"CPU": 1}).memory_bytes
    over, peak = threading.Event(), [0]

    def watch() -> None:
        while not over.wait(0.1):
            peak[0] = max(peak[0], written_bytes())

    watching = threading.Thread(target=watch)
    watching.start()
    with one_thread():
        raysplit.train(experiment)
    over.set()
    watching.join()
    found = {"estimated_mib": estimated >> 20, "measured_mib": peak[0] >> 20}
    return {"owners": owners, "codec": codec, **found, "ratio": round(estimated / peak[0], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--owners", type=int, nargs="+", default=[300, 1000])
    given = parser.parse_args()
    for codec in CODECS:
        for owners in given.owners:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(json.dumps(pool.apply(measure, (owners, codec))), flush=True)


if __name__ == "__main__":
    main()
