"""Wall time of groups that train side by side, in places of their own, and one after another, on a private local Ray.

    python benchmarks/mas/groups.py --cpus 4 --groups 2 3

Every place has one CPU; the run begins with one place, so that ``--cpus`` less one are free for the groups. Needs as
many real cores as it is given, or the numbers mean nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from statistics import median

from raysplit.api import train_config
from raysplit.cluster.on_ray.connect import RayOptions, connect, disconnect
from raysplit.config.run import check_config


def seconds_per_round(mode: str, num_groups: int, arguments: argparse.Namespace) -> tuple[float, float]:
    """Median wall time of a round after the split, and the final loss, which no mode may change."""
    config = check_config(
        {
            "model": {"name": "mas", "width": 0.25},
            "data": {"name": "rooms", "num_buildings": 4, "num_train": 32, "image_size": arguments.size},
            "partition": {"name": "natural_id", "num_owners": 4},
            "algorithm": {"name": "mas", "merged_rounds": 1, "num_groups": num_groups, "run_groups": mode},
            "training": {
                "rounds": 1 + arguments.rounds,
                "batch_size": 16,
                "loss": "task_sum",
                "optimizer": {"lr": 0.05, "momentum": 0.9},
            },
            "evaluation": {"every": 1 + arguments.rounds},
            "cluster": {"places": 1, "num_cpus": arguments.cpus},
        }
    )
    result = train_config(config, keep_ray=True)
    after = [row["seconds"] for row in result.rows[2:]]  # the first of them makes places and loads models
    return median(after), result.rows[-1]["test_loss"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpus", type=int, default=4)
    parser.add_argument("--groups", nargs="+", type=int, default=[2, 3])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--size", type=int, default=32)
    arguments = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="rs", dir="/tmp")
    connect(RayOptions(address="local", num_cpus=arguments.cpus, temp_dir=folder))
    print("| groups | one after another s | side by side s | faster | same loss |")
    print("| --- | --- | --- | --- | --- |")
    for number in arguments.groups:
        turn, loss = seconds_per_round("in_turn", number, arguments)
        side, same = seconds_per_round("auto", number, arguments)
        print(f"| {number} | {turn:.2f} | {side:.2f} | {turn / side:.2f} | {loss == same} |", flush=True)
    disconnect()


if __name__ == "__main__":
    main()
