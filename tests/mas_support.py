"""Tiny multi-task runs whose numbers can be compared exactly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from raysplit.algorithms.mas.groups import GroupTraining
from raysplit.cluster.contract import Cluster
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.config.run import RunConfig, check_config
from raysplit.runs.result import Result
from raysplit.training.loop import run

T = TypeVar("T")
States = Mapping[str, Mapping[str, Tensor]]

BASE: dict[str, dict[str, Any]] = {
    "model": {"name": "mas", "encoder": "mas_support:tiny_encoder", "decoder": "mas_support:tiny_decoder"},
    "data": {
        "name": "rooms", "tasks": "sdk", "image_size": 16,
        "num_buildings": 2, "num_train": 8, "num_val": 4, "num_test": 4,
    },
    "partition": {"name": "natural_id", "num_owners": 2},
    "algorithm": {"name": "mas", "merged_rounds": 1, "affinity_every": 1},
    "training": {
        "rounds": 3,
        "batch_size": 4,
        "loss": "task_sum",
        "lr_schedule": "poly",
        "optimizer": {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4},
    },
    "cluster": {"kind": "local"},
}  # fmt: skip


def tiny_encoder(*, in_channels: int, image_size: int, width: float) -> nn.Module:
    """As little as has batch norm in it."""
    return nn.Sequential(nn.Conv2d(in_channels, 6, 4, stride=4, bias=False), nn.BatchNorm2d(6), nn.ReLU())


def tiny_decoder(*, in_channels: int, out_channels: int, image_size: int, num_doublings: int) -> nn.Module:
    size = 2**num_doublings
    up = nn.ConvTranspose2d(in_channels, 4, size, stride=size)
    return nn.Sequential(up, nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, out_channels, 1))


def plain_encoder(*, in_channels: int, image_size: int, width: float) -> nn.Module:
    """Without batch norm, so that a mean of owners' gradients is the gradient on all their samples."""
    return nn.Sequential(nn.Conv2d(in_channels, 4, 4, stride=4), nn.Tanh())


def plain_decoder(*, in_channels: int, out_channels: int, image_size: int, num_doublings: int) -> nn.Module:
    """Without batch norm."""
    return nn.ConvTranspose2d(in_channels, out_channels, 2**num_doublings, stride=2**num_doublings)


PLAIN = {"encoder": "mas_support:plain_encoder", "decoder": "mas_support:plain_decoder", "dtype": "float64"}
"""Options of the model that make it small, exact and without batch norm."""


def configured(algorithm: Mapping[str, Any] | str = "mas", **changes: Any) -> RunConfig:
    """The base with another algorithm (its name, or options on top of the base's), and ``section__key`` changed."""
    tree: dict[str, Any] = {"seed": 3} | {section: dict(values) for section, values in BASE.items()}
    if isinstance(algorithm, str):
        algorithm = {"name": algorithm}
    keep = tree["algorithm"] if algorithm.get("name", "mas") == "mas" else {}
    tree["algorithm"] = {**keep, **algorithm}
    for key, value in changes.items():
        section, _, leaf = key.partition("__")
        tree.setdefault(section, {})[leaf] = value
    return check_config(tree)


def train(algorithm: Mapping[str, Any] | str = "mas", *, cluster: Cluster | None = None, **changes: Any) -> Result:
    config = configured(algorithm, **changes)
    return asyncio.run(run(build(config), cluster or LocalCluster()))


def with_algorithm(
    work: Callable[[Any], Awaitable[T]], algorithm: Mapping[str, Any] | str = "mas", **changes: Any
) -> T:
    """What ``work`` makes of a deployed algorithm that has not begun."""
    config = configured(algorithm, **changes)
    experiment = build(config)

    made_of_it: list[T] = []  # not returned from the main task: asyncio would print all tensors

    async def deployed() -> None:
        made = experiment.begin()
        setting, cluster = made.setting, LocalCluster()
        made.attach(await cluster.deploy([*made.parties(), *setting.evaluators, *setting.validators]), cluster)
        made_of_it.append(await work(made))

    asyncio.run(deployed())
    return made_of_it[0]


async def rounds(algorithm: Any, first: int, last: int) -> None:
    """Run the rounds first, ..., last - 1 with everybody."""
    for number in range(first, last):
        everybody = list(algorithm.setting.owners)
        await algorithm.round(algorithm.context(number, everybody, lr_scale=algorithm.lr_scale(number)))


async def states(algorithm: GroupTraining) -> dict[str, dict[str, Tensor]]:
    """The present weights of each group in training."""
    return {g.label: {k: v.clone() for k, v in (await g.aggregator.current()).items()} for g in algorithm.groups}


def same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Bitwise equality of all entries."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def same_models(a: States, b: States) -> bool:
    return a.keys() == b.keys() and all(same(a[label], b[label]) for label in a)
