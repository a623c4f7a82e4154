"""More owners in a place than have their parts at hand: the number of places leaves no trace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from support import run_on, same, train

from raysplit.actors.aggregator import Aggregator
from raysplit.actors.parts.owner_store import MAX_AT_HAND, MAX_BYTES_AT_HAND
from raysplit.algorithms.fedavg.fedavg import FedAvg
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.on_ray.cluster import RayCluster
from raysplit.config.build import build
from raysplit.config.run import check_config

CONFIG: dict[str, Any] = {
    "model": {"name": "mlp"},
    "data": {"name": "random", "num_samples": 100},
    "partition": {"name": "iid", "num_owners": 10},
    "algorithm": {"name": "fedavg"},
    "training": {"batch_size": 4},
}


def test_packed_owners_give_the_same_bits_on_any_number_of_places(make_cluster: Callable[..., RayCluster]) -> None:
    """Momentum is kept between rounds, so what was packed matters."""
    num_owners, hidden = 3 * MAX_AT_HAND, 1000
    assert (
        num_owners // 2 * 3 * 4 * hidden * (64 + 10) > MAX_BYTES_AT_HAND
    )  # weights and room for an optimizer's moments
    changes: dict[str, Any] = {
        "model": {"name": "mlp", "hidden": [hidden]},
        "algorithm": {"name": "fedavg"},
        "data__num_samples": 2 * num_owners,
        "partition__num_owners": num_owners,
        "training": {
            "rounds": 3,
            "batch_size": 1,
            "cohort_size": 100,
            "owner_optimizer_state": "keep",
            "optimizer": {"lr": 0.1, "momentum": 0.9},
        },
    }
    here = train(**changes)
    for num_places in (1, 2):
        assert same(run_on(make_cluster(num_places), **changes), here)


def test_owners_at_once_give_the_same_bits_on_any_number_of_places(make_cluster: Callable[..., RayCluster]) -> None:
    """Stacked with others of their place, which differ with the number of places."""
    changes: dict[str, Any] = {
        "model": {"name": "cnn8"},
        "algorithm": {"name": "fedavg"},
        "data": {"name": "random", "num_classes": 5, "num_samples": 150, "input_shape": [1, 8, 8]},
        "partition": {"name": "quantity", "num_owners": 11},
        "training": {"rounds": 3, "batch_size": 4, "cohort_size": 7, "vectorize": 4},
    }
    here = train(**changes)
    for num_places in (1, 2, 3):
        assert same(run_on(make_cluster(num_places), **changes), here)


class Told(Aggregator):
    """An aggregator that counts the sums and the single updates that it gets."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.sums, self.singles = [], 0

    async def submit(self, *args: Any, **kwargs: Any) -> None:
        self.singles += 1
        await super().submit(*args, **kwargs)

    async def submit_sum(self, context: Any, node: Any, total: Any) -> None:
        self.sums.append(tuple(node))
        await super().submit_sum(context, node, total)

    async def told(self) -> tuple[list[Any], int]:
        return self.sums, self.singles


@pytest.mark.parametrize(("num_places", "sums", "singles"), [(1, [], 10), (2, [(2, 0)], 5), (3, [], 10)])
def test_owners_of_a_place_submit_one_sum_and_are_counted_one_by_one(
    make_cluster: Callable[..., RayCluster], num_places: int, sums: list[Any], singles: int
) -> None:
    """A round of a hundred small owners spent a sixth of its time with the single updates of the other place."""

    async def trained(cluster: Any) -> tuple[Mapping[str, Any], Any, Any]:
        algorithm = FedAvg(build(check_config(CONFIG)).setting)
        parties = [replace(party, build=Told) if party.role == "aggregator" else party for party in algorithm.parties()]
        try:
            algorithm.attach(await cluster.deploy(parties))
            await algorithm.round(algorithm.context(0, list(algorithm.setting.owners)))
            aggregator: Any = algorithm.aggregator()
            traffic = [record for record in await cluster.traffic() if record.destination == "aggregator"]
            return await aggregator.current(), await aggregator.told(), traffic
        finally:
            await cluster.close()

    here, _, counted_here = asyncio.run(trained(LocalCluster()))
    there, told, counted = asyncio.run(trained(make_cluster(num_places)))
    assert told == (sums, singles)
    assert all(torch.equal(value, here[name]) for name, value in there.items())
    assert counted == counted_here
