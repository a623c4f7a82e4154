"""What a run takes before its first round, and the memory of its processes: seconds, and MiB resident and private.

    python benchmarks/scale/start.py            # on Ray, two places
    python benchmarks/scale/start.py --local    # in one process

FedAvg of `cnn8` on the digits, ten owners, three rounds; the memory is that after the last one. Prints a JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import psutil

import raysplit


class Look(raysplit.Callback):
    """Notes when the first round begins, and the memory of the processes after each round."""

    def __init__(self) -> None:
        self.start: dict[str, float] = {}
        self.memory: dict[str, list[int]] = {}

    def stage_began(self, stage: str) -> None:
        if stage == "train" and not self.start:
            since_s = time.time() - psutil.Process().create_time()
            self.start = {"seconds": round(since_s, 2), "cpu_s": round(time.process_time(), 2)}

    def round_ended(self, row: object) -> None:
        me = psutil.Process()
        for process in [me, *me.children(recursive=True)]:
            name = "driver" if process is me else " ".join(process.cmdline())
            if process is me or name.startswith("ray::Place"):
                used = process.memory_full_info()
                self.memory[f"{name.split()[0]} {process.pid}"] = [used.rss >> 20, used.uss >> 20]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--local", action="store_true")
    given = parser.parse_args()
    look = Look()
    with tempfile.TemporaryDirectory() as folder:
        raysplit.train(
            model={"name": "cnn8"},
            data={"name": "digits"},
            partition={"name": "iid", "num_owners": 10},
            algorithm={"name": "fedavg"},
            training={"rounds": 3, "batch_size": 32},
            cluster={"kind": "local"} if given.local else {"kind": "ray", "places": 2},
            folder=Path(folder) / "run",
            callbacks=[look],
        )
    print(json.dumps({"until_first_round": look.start, "resident_private_mib": look.memory}))


if __name__ == "__main__":
    main()
