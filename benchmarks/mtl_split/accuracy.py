"""Single-task against multi-task networks on rendered 3D Shapes and dSprites, under both kinds of noise.

Capogrosso et al., "MTL-Split" (2024, arXiv 2407.05982) report that every task gains, by +0.17 to +80.22 points. For
each data set, noise, backbone and seed, networks are trained by one budget: every task alone, and all of them. The
accuracy is that on the test pictures at the epoch of the lowest joint loss on validation pictures; of several rates,
`report.py` takes that of the lowest one too. Every network is one line of JSON in the output file; finished ones are
not repeated, and none begins once the budget of CPU seconds is spent, so that the next call goes on from there.

    python benchmarks/mtl_split/accuracy.py --output accuracy.jsonl [--dsprites FILE] [--cpu-seconds 600]
    python benchmarks/mtl_split/accuracy.py --output few.jsonl --grid full --rates 0.001 0.002 --tasks scale shape
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import torch

from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.training.loop import run

TASKS = ("scale", "shape")
NOISES = ("uniform_0.05", "gauss_0.08")


def cells(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Seed by seed, and within a seed all three networks of a cell together: a run cut short can be reported."""
    data_sets = ["dsprites"] if options.dsprites else ["shapes3d"]
    budget = {"epochs": options.epochs, "num_train": options.num_train, "num_test": options.num_test}
    grid = {"grid": options.grid} if data_sets == ["shapes3d"] else {}
    networks = [*([task] for task in options.tasks), list(options.tasks)]
    for seed, data, noise, backbone, rate, tasks in product(
        range(options.seeds), data_sets, options.noises, options.backbones, options.rates, networks
    ):
        of_all = {"data": data, "noise": noise, "backbone": backbone, "seed": seed, "rate": rate}
        yield {**of_all, **grid, **budget, "tasks": tasks, "of": list(options.tasks)}


def trained(cell: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    data: dict[str, Any] = {"name": cell["data"], "tasks": cell["of"], "noise": cell["noise"]}
    data |= {"grid": cell["grid"]} if cell["data"] == "shapes3d" else {"root": str(options.dsprites)}
    config = check_config(
        {
            "seed": cell["seed"],
            "model": {"name": "multi_task", "backbone": cell["backbone"], "tasks": cell["tasks"]},
            "data": {**data, "seed": cell["seed"], "num_train": options.num_train, "num_test": options.num_test},
            "partition": {"num_owners": 1},
            "algorithm": {"name": "mtl_split"},
            "training": {
                "rounds": options.epochs,
                "optimizer": {"name": "adamw", "lr": cell["rate"]},
                "owner_optimizer_state": "keep",
                "lr_schedule": "step",
            },
        }
    )
    started = time.process_time()
    rows = asyncio.run(run(build(config), LocalCluster())).rows
    best = min(rows, key=lambda row: row["val_loss"])
    return {
        **cell,
        "val_loss": best["val_loss"],
        "best_epoch": best["round"],
        "accuracy": {task: best[f"test_accuracy_{task}"] for task in cell["tasks"]},
        "last": {task: rows[-1][f"test_accuracy_{task}"] for task in cell["tasks"]},
        "cpu_s": time.process_time() - started,
    }


def finished(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--dsprites", type=Path, help="a dSprites .npz, or its folder; 3D Shapes otherwise")
    parser.add_argument("--noises", nargs="+", choices=NOISES, default=NOISES)
    parser.add_argument("--backbones", nargs="+", default=["small", "mobilenet_v3_small", "resnet18"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--num-train", type=int, default=1500)
    parser.add_argument("--num-test", type=int, default=500)
    parser.add_argument("--rates", nargs="+", type=float, default=[1e-3], help="chosen by validation in the report")
    parser.add_argument("--grid", choices=["reduced", "full"], default="reduced", help="of 3D Shapes")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), help="the networks: each task alone, and all")
    parser.add_argument("--cpu-seconds", type=float, default=600.0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    done = finished(options.output)
    for cell in cells(options):
        if any(all(row.get(key) == value for key, value in cell.items()) for row in done):
            continue
        if time.process_time() > options.cpu_seconds:
            print(f"the budget of {options.cpu_seconds:g} CPU seconds is spent; call again to go on")
            return
        row = trained(cell, options)
        with options.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
