"""`RayCluster`: the same bits as in one process, data from maker to user, errors with their names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import run_on, same, train

from raysplit.actors.records import NonFiniteLoss
from raysplit.cluster.contract import PartySpec, PlaceLost
from raysplit.cluster.layout import Layout, PlaceSpec
from raysplit.cluster.on_ray.cluster import PlacementError, RayCluster

Make = Callable[..., RayCluster]


TWO_SERVERS = {"name": "minibatch_sfl", "cut": 1, "num_servers": 2}
NAMES = ["fedavg", "splitnn", "splitfed_v1", "splitfed_v2", "minibatch_sfl"]


@pytest.mark.parametrize(
    "algorithm",
    [*({"name": name, "cut": 1} for name in NAMES), TWO_SERVERS],
    ids=lambda a: "-".join(map(str, a.values())),
)
def test_ray_and_local_give_the_same_bits_and_the_same_traffic(algorithm: dict[str, Any], make_cluster: Make) -> None:
    here = train(algorithm=algorithm)
    there = run_on(make_cluster(2), algorithm=algorithm)
    assert same(there, here)
    assert there.links == here.links
    assert [row["train_loss"] for row in there.rows] == [row["train_loss"] for row in here.rows]


def test_the_number_of_places_leaves_no_trace(make_cluster: Make) -> None:
    one = run_on(make_cluster(1))
    three = run_on(make_cluster(3))
    assert same(one, three)
    assert one.links == three.links


def test_every_party_alone_in_its_place(make_cluster: Make) -> None:
    assert same(run_on(make_cluster(sharing="alone")), train())


def test_cuts_inside_residual_blocks_cross_processes(make_cluster: Make) -> None:
    changes: dict[str, Any] = {
        "model": {"name": "resnet18", "dtype": "float32"},
        "data": {"name": "random", "num_classes": 4, "num_samples": 30, "input_shape": [3, 32, 32], "seed": 2},
        "training": {"rounds": 1, "batch_size": 8, "max_steps": 2, "optimizer": {"lr": 0.1, "momentum": 0.9}},
        "algorithm": {"name": "splitfed_v1", "cut": "layer1.1.bn1"},
    }
    assert same(run_on(make_cluster(2), **changes), train(**changes))


def test_a_bad_loss_names_owner_round_and_step(make_cluster: Make) -> None:
    with pytest.raises(NonFiniteLoss, match=r"the loss of owner-\d is .* in round 1, step \d") as caught:
        run_on(make_cluster(2), training__optimizer={"lr": 1e200})
    assert caught.value.owner.startswith("owner-")


class Source:
    def __init__(self, *, name: str) -> None:
        self.name = name

    async def make(self, size: int) -> torch.Tensor:
        return torch.arange(size, dtype=torch.float32)

    async def die(self) -> None:
        import os

        os._exit(1)


class Sink:
    def __init__(self, *, name: str) -> None:
        self.name = name

    async def total(self, value: torch.Tensor) -> float:
        return float(value.sum())

    async def fetch(self, source: Any) -> float:
        return await self.total(await source.make(4))


async def _with(cluster: RayCluster, work: Callable[[dict[str, Any]], Any]) -> Any:
    specs = [
        PartySpec(name="source", role="owner", build=Source),
        PartySpec(name="sink", role="node", build=Sink),
    ]
    try:
        return await work(await cluster.deploy(specs))
    finally:
        await cluster.close()


def test_a_promise_passed_on_goes_from_maker_to_user(make_cluster: Make) -> None:
    """The megabyte is counted between source and sink and nowhere else; the driver never holds it."""

    async def work(handles: dict[str, Any]) -> tuple[float, Any]:
        total = await handles["sink"].total(handles["source"].make(2**18))
        return total, [t for t in await cluster.traffic() if t.destination == "sink"]

    cluster = make_cluster(sharing="alone")
    before = 2**18 * (2**18 - 1) / 2
    total, traffic = asyncio.run(_with(cluster, work))
    assert total == pytest.approx(before, rel=1e-6)
    assert [(t.source, t.num_bytes) for t in traffic] == [("source", 2**20)]


def test_a_handle_is_an_argument_like_any_other(make_cluster: Make) -> None:
    async def work(handles: dict[str, Any]) -> float:
        fetched: float = await handles["sink"].fetch(handles["source"])
        return fetched

    assert asyncio.run(_with(make_cluster(2), work)) == 6


def test_a_dead_place_is_named(make_cluster: Make) -> None:
    async def work(handles: dict[str, Any]) -> None:
        await handles["source"].die()

    with pytest.raises(PlaceLost, match="place-source"):
        asyncio.run(_with(make_cluster(sharing="alone"), work))


def test_a_place_without_room_says_what_is_missing(ray_session: dict[str, float]) -> None:
    def impossible(parties: Any) -> Layout:
        place = PlaceSpec(name="place-0", cpus=1, resources={"raspberry_pi": 1})
        return Layout(places=(place,), place_of={party.name: "place-0" for party in parties})

    async def work(handles: dict[str, Any]) -> None:
        raise AssertionError("there was room")

    with pytest.raises(PlacementError, match=r"raspberry_pi: 1 wanted, 0 free of 0"):
        asyncio.run(_with(RayCluster(impossible, placement_timeout_s=0.5), work))
