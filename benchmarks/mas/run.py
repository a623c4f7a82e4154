"""Merge and split against its baselines on rendered rooms, every run recorded in a folder of its own.

    python benchmarks/mas/run.py --out runs/mas                        # the methods, three seeds
    python benchmarks/mas/run.py --out runs/mas --what ablations sweep # partitions, inheritance; R0 in tenths of R
    python benchmarks/mas/report.py runs/mas                           # the tables and the figure of the README

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285. One building per owner, four owners drawn in each round, one local
epoch, poly schedule from 0.1, momentum 0.9, weight decay 1e-4, affinities on every fifth batch, as many rounds as
``--rounds``, of which the first 30 % are merged. Everything runs in this process, on one thread. Finished runs are
kept: start it again and it goes on. ``--budget-s`` starts no further run once so much processor time is used.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raysplit.api import train_config
from raysplit.config.run import RunConfig, check_config

MERGED = 0.3
SWEEP = (0.1, 0.3, 0.5, 0.7, 0.9)


def methods(rounds: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """What section 8 of the paper's figure compares."""
    yield "all_in_one", {"name": "all_in_one"}
    yield "one_by_one", {"name": "one_by_one"}
    for number in (2, 3, 4):
        yield f"mas-{number}", mas(rounds, num_groups=number)
    yield "tag-2", {"name": "tag", "num_groups": 2, "affinity_every": 5}
    yield "fedprox", {"name": "all_in_one", "method": "fedprox"}
    yield "gradnorm", {"name": "all_in_one", "method": "gradnorm"}
    for number in (3, 4):
        yield f"tag-{number}", {"name": "tag", "num_groups": number, "affinity_every": 5}
    yield "hoa-2", {"name": "hoa", "num_groups": 2}


def ablations(rounds: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Two groups otherwise chosen, or otherwise begun."""
    yield "mas-2-random", mas(rounds, partition="random")
    yield "mas-2-worst", mas(rounds, partition="worst")
    yield "mas-2-scratch", mas(rounds, inherit="nothing")
    yield "mas-2-encoder", mas(rounds, inherit="encoder")
    yield "mas-2-one-schedule", mas(rounds, restart_schedule=False)


def sweep(rounds: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """When to split."""
    for share in SWEEP:
        if share != MERGED:  # that run is among the methods
            yield f"mas-2-r0-{round(100 * share)}", mas(rounds, merged_rounds=round(share * rounds))


def mas(rounds: int, **options: Any) -> dict[str, Any]:
    base = {"name": "mas", "num_groups": 2, "merged_rounds": round(MERGED * rounds), "affinity_every": 5}
    return base | options


PARTS = {"methods": methods, "ablations": ablations, "sweep": sweep}


def configured(arguments: argparse.Namespace, algorithm: dict[str, Any], seed: int) -> RunConfig:
    num_owners = arguments.owners
    return check_config(
        {
            "seed": seed,
            "model": {"name": "mas", "width": arguments.width},
            "data": {
                "name": "rooms",
                "tasks": arguments.tasks,
                "num_buildings": num_owners,
                "num_train": arguments.train,
                "num_val": 16,
                "num_test": 16,
                "image_size": arguments.size,
                "seed": seed,
                "cache": str(arguments.out / "rooms"),
            },
            "partition": {"name": "natural_id", "num_owners": num_owners},
            "algorithm": {**algorithm, "run_groups": "in_turn"},
            "training": {
                "rounds": arguments.rounds,
                "cohort_size": min(4, num_owners),
                "batch_size": 16,
                "loss": "task_sum",
                "lr_schedule": "poly",
                "optimizer": {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
            },
            "evaluation": {"every": max(1, arguments.rounds // 10)},
            "cluster": {"kind": "local"},
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--what", nargs="+", choices=list(PARTS), default=["methods"])
    parser.add_argument("--only", nargs="+", help="names of runs, such as mas-2 one_by_one; all by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--owners", type=int, default=8)
    parser.add_argument("--train", type=int, default=64, help="training images per owner")
    parser.add_argument("--size", type=int, default=32, help="pixels")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--tasks", default="sdnkt")
    parser.add_argument("--budget-s", type=float, default=float("inf"))
    arguments = parser.parse_args()
    runs = [run for part in arguments.what for run in PARTS[part](arguments.rounds)]
    for seed in arguments.seeds:
        for name, algorithm in runs:
            folder = arguments.out / f"{name}-seed{seed}"
            if (folder / "summary.json").exists() or (arguments.only and name not in arguments.only):
                continue
            if time.process_time() > arguments.budget_s:
                print(f"the budget is used up before {folder.name}")
                return
            config = configured(arguments, algorithm, seed)
            config = config.model_copy(update={"output": config.output.model_copy(update={"overwrite": True})})
            started = time.process_time()
            result = train_config(config, folder=folder)
            loss = result.rows[-1]["test_loss"]
            print(f"{folder.name}: total test loss {loss:.4f}, {time.process_time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
