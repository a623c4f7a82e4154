"""Multi-task split learning against its baselines on MNIST and Fashion-MNIST.

    python benchmarks/mtsl/run.py --data-root DATA --out runs/mtsl        # about 20 minutes of one CPU
    python benchmarks/mtsl/report.py --data-root DATA --out runs/mtsl     # the tables of the README

Zheng, Eryilmaz (2024, arXiv 2406.00150). Ten owners, 800 training and 500 test samples each, by main label; batches
of 32, plain SGD, 20 steps per round, evaluation after every round; the smallest perceptron (784 pooled to 196, 32 at
the cut). Everything runs in this process. Finished runs are kept: start it again and it goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.fedavg.references import LocalOnly
from raysplit.algorithms.mtsl.mtsl import MTSL, MTSLOptions
from raysplit.algorithms.setting import Options, OwnerData
from raysplit.api import train_cell
from raysplit.cluster.contract import gather
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.seeding import generator
from raysplit.sweeps.sweep import Axis, cells, run_cells

SEEDS = (0, 1, 2)
STEPS_PER_ROUND = 20
RATE = 0.1
SCRATCH_SIZES = (50, 200, 800)


def settings(root: str, *, data: str = "MNIST", rounds: int = 50, alpha: float = 0.3) -> dict[str, Any]:
    """The configuration that all experiments change."""
    return {
        "model": {"name": "mlp_small"},
        "data": {"name": data, "root": root},
        "partition": {
            "name": "main_label",
            "num_owners": 10,
            "alpha": alpha,
            "samples_per_owner": 800,
            "test_samples_per_owner": 500,
        },
        "algorithm": {"name": "mtsl", "cut": 1},
        "training": {
            "rounds": rounds,
            "batch_size": 32,
            "local_epochs": 100,  # more than max_steps needs
            "max_steps": STEPS_PER_ROUND,
            "optimizer": {"lr": RATE},
        },
        "evaluation": {"every": 1, "targets": [0.9]},
        "reliability": {"checkpoint_every": None},
        "cluster": {"kind": "local"},
    }


def experiments(root: str) -> dict[str, tuple[dict[str, Any], list[Axis]]]:
    """By name: what is fixed and what is swept, the most important first."""
    mnist, fashion = settings(root), settings(root, data="FashionMNIST", rounds=25)
    alphas = Axis(key="partition.alpha", values=(0.0, 0.1, 0.3, 1.0))
    methods = Axis(key="algorithm.name", values=("mtsl", "fedavg", "minibatch_sfl", "local"))
    noisy = mnist | {"owners": {"noisy": 5, "pixel_noise": 1.0}}
    seeds = Axis(key="seed", values=SEEDS)
    return {
        "mnist": (mnist, [seeds, alphas, methods]),
        "server_rate": (
            mnist,
            [
                seeds,
                Axis(key="partition.alpha", values=(0.1, 0.3)),
                Axis(
                    key="algorithm.learning_rates", values=({"server": 0.01}, {"server": 0.3}, {"server": 1.0}, "auto")
                ),
            ],
        ),
        "fedem": (
            mnist | {"algorithm": {"name": "fedem"}},
            [seeds, Axis(key="partition.alpha", values=(0.0, 0.1))],
        ),
        "fedprox": (
            mnist | {"algorithm": {"name": "fedprox"}},
            [seeds, Axis(key="partition.alpha", values=(0.1,))],
        ),
        "best_rate": (
            mnist,
            [
                seeds,
                Axis(key="algorithm.name", values=("fedavg", "minibatch_sfl")),
                Axis(key="training.optimizer.lr", values=(0.3,)),
            ],
        ),
        "slow_bottoms": (
            mnist | {"training": mnist["training"] | {"optimizer": {"lr": 0.03}}},
            [
                seeds,
                Axis(key="partition.alpha", values=(0.1, 0.3)),
                Axis(key="algorithm.learning_rates", values=({"server": 0.03}, {"server": 0.3})),
            ],
        ),
        "noise": (noisy, [seeds, Axis(key="algorithm.name", values=("mtsl", "fedavg", "local"))]),
        "fashion": (
            fashion,
            [
                seeds,
                Axis(key="partition.alpha", values=(0.1, 1.0)),
                Axis(key="algorithm.name", values=("mtsl", "fedavg", "local")),
            ],
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, help="folder with torchvision's MNIST and FashionMNIST")
    parser.add_argument("--out", type=Path, default=Path("runs/mtsl"), help="where runs are kept")
    parser.add_argument("--only", nargs="*", help="names of experiments")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    for name, (tree, axes) in experiments(arguments.data_root).items():
        if not arguments.only or name in arguments.only:
            grid, folder = cells(tree, axes), arguments.out / name
            failed = run_cells(grid, folder, train=train_cell, done=lambda cell, kept: announce(cell.name))
            for cell, reason in failed.items():
                announce(f"{cell} FAILED: {reason}")
    if not arguments.only or "new_owner" in arguments.only:
        for seed in SEEDS:
            new_owner(arguments.data_root, arguments.out / "new_owner" / f"seed={seed}.json", seed)
    announce(f"{time.process_time() - started:.0f} s of CPU")


def announce(line: str) -> None:
    print(line, flush=True)


def new_owner(root: str, path: Path, seed: int, *, join_round: int = 50, rounds_after: int = 25) -> None:
    """Nine owners train, then leave; newcomers train bottoms of their own under the frozen top, or whole models.

    With the top frozen the newcomers do not influence each other, so all sizes and beginnings join in one run.
    """
    if path.exists():
        return
    setting = build(check_config(settings(root, rounds=join_round + rounds_after) | {"seed": seed})).setting
    *old, last = setting.owners
    sizes = {f"new-{n}-{bottom}": n for n in SCRATCH_SIZES for bottom in ("random", "mean")}
    newcomers = {name: first_samples(setting.owners[last], n, seed) for name, n in sizes.items()}
    members = {name: {"leaves": join_round} for name in old}
    members |= {name: {"joins": join_round, "bottom": name.rsplit("-", 1)[1]} for name in newcomers}
    options = MTSLOptions.model_validate({"cut": 1, "members": members, "freeze_server_from": join_round})
    there = replace(setting, owners={name: setting.owners[name] for name in old} | newcomers)
    joined = asyncio.run(trained(MTSL(there, options), join_round + rounds_after, list(newcomers)))
    scratch_owners = {f"scratch-{n}": first_samples(setting.owners[last], n, seed) for n in SCRATCH_SIZES}
    alone = LocalOnly(replace(setting, owners=scratch_owners), Options())
    scratch = asyncio.run(trained(alone, rounds_after, list(scratch_owners)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(joined | scratch, indent=2) + "\n")
    announce(f"new owner, seed {seed}: {joined | scratch}")


def first_samples(data: OwnerData, count: int, seed: int) -> OwnerData:
    """The owner with the first samples of one random order, so that smaller shards lie within larger ones."""
    order = generator(seed, "newcomer").permutation(len(data.shard))
    return replace(data, shard=data.shard.take(order[:count]))


async def trained(algorithm: Algorithm, rounds: int, judged: list[str]) -> Mapping[str, float]:
    """Play the rounds; accuracy of these owners' models on their own tests."""
    algorithm.attach(await LocalCluster().deploy(algorithm.parties()))
    for round in range(rounds):
        await algorithm.round(algorithm.context(round, algorithm.available(round)))
    models = algorithm.models()
    results = await gather(*[algorithm.handles[name].evaluate(*models[name]) for name in judged])
    return {name: result.accuracy for name, result in zip(judged, results, strict=True)}


if __name__ == "__main__":
    main()
