"""Accuracy on real images: FedAvg, SplitFed V2 and MiniBatch-SFL at an early and a late cut, over label skew.

Fashion-MNIST, ten owners, the four-layer CNN, one learning rate for all, the same budget of sample visits for all.
Beside the gaps stand the paper's maxima over its own grid (arXiv 2308.11953: +17.1 points over FedAvg, +24.1 over
SplitFed). Every run is one line of JSON in the output file; finished runs are not repeated.

    python benchmarks/foundation/accuracy.py DATA_ROOT --output results.jsonl [--processes 2]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from typing import Any

import torch

RATIOS = (0.0, 0.5, 0.95)
METHODS = (("fedavg", None), ("splitfed_v2", 1), ("splitfed_v2", 3), ("minibatch_sfl", 1), ("minibatch_sfl", 3))
SEEDS = (0, 1, 2)


def train(root: str, method: str, cut: int | None, ratio: float, seed: int, budget: dict[str, Any]) -> dict[str, Any]:
    from raysplit.cluster.local.cluster import LocalCluster
    from raysplit.config.build import build
    from raysplit.config.run import check_config
    from raysplit.training.loop import run

    torch.set_num_threads(1)
    config = check_config(
        {
            "seed": seed,
            "model": {"name": "cnn4"},
            "data": {"name": "FashionMNIST", "root": root, **budget["data"]},
            "partition": {"name": "noniid_ratio", "num_owners": 10, "ratio": ratio},
            "algorithm": {"name": method} | ({"cut": cut} if cut is not None else {}),
            "training": budget["training"],
            "evaluation": {"divergence_every": 5},
        }
    )
    result = asyncio.run(run(build(config), LocalCluster()))
    accuracies = [row["test_accuracy"] for row in result.rows if "test_accuracy" in row]
    rms = [row["divergence_rms"] for row in result.rows if "divergence_rms" in row]
    return {
        "method": method,
        "cut": cut,
        "ratio": ratio,
        "seed": seed,
        "last": accuracies[-1],
        "best": max(accuracies),
        "bytes": result.rows[-1]["bytes_total"],
        "server_steps": sum(row["server_steps"] for row in result.rows),
        "divergence_raw": statistics.mean(r["divergence_raw"] for r in result.rows if "divergence_raw" in r),
        "divergence_rms": statistics.mean(rms),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Mean and standard deviation of the last test accuracy over seeds, and MiniBatch-SFL's gaps, in Markdown."""
    lines = ["| method | " + " | ".join(f"r = {r:g}" for r in RATIOS) + " |", "|" + "---|" * (len(RATIOS) + 1)]
    means: dict[tuple[str, int | None, float], float] = {}
    for method, cut in METHODS:
        cells = []
        for ratio in RATIOS:
            values = [
                100 * row["last"] for row in rows if (row["method"], row["cut"], row["ratio"]) == (method, cut, ratio)
            ]
            means[method, cut, ratio] = statistics.mean(values)
            cells.append(f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}")
        lines.append(f"| {method}{f', cut {cut}' if cut else ''} | " + " | ".join(cells) + " |")
    for other, paper in (("fedavg", "+17.1"), ("splitfed_v2", "+24.1")):
        cells = []
        for ratio in RATIOS:
            ours = max(means["minibatch_sfl", cut, ratio] for cut in (1, 3))
            theirs = max(mean for (method, _, r), mean in means.items() if method == other and r == ratio)
            cells.append(f"{ours - theirs:+.1f}")
        lines.append(f"| best MiniBatch-SFL − best {other} (paper: up to {paper}) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", help="torchvision data root that holds FashionMNIST")
    parser.add_argument("--output", type=Path, default=Path("accuracy.jsonl"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--train-samples", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--local-epochs", type=int, default=2)
    parser.add_argument("--lr", type=float, default=0.05)
    arguments = parser.parse_args()
    budget = {
        "data": {"train_samples": arguments.train_samples, "test_samples": 2000},
        "training": {
            "rounds": arguments.rounds,
            "local_epochs": arguments.local_epochs,
            "batch_size": 32,
            "optimizer": {"lr": arguments.lr},
        },
    }
    lines = arguments.output.read_text().splitlines() if arguments.output.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {(row["method"], row["cut"], row["ratio"], row["seed"]) for row in rows}
    with ProcessPoolExecutor(arguments.processes) as pool:
        waiting = [
            pool.submit(train, arguments.root, method, cut, ratio, seed, budget)
            for seed, ratio, (method, cut) in product(SEEDS, RATIOS, METHODS)
            if (method, cut, ratio, seed) not in done
        ]
        for future in as_completed(waiting):
            rows.append(future.result())
            with arguments.output.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
