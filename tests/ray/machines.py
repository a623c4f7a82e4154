"""A program: a run on a Ray cluster of two machines, one of which goes in a round. Arguments: method, round."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import ray
import torch
from disturbed import changes
from mas_support import same_models
from ray.cluster_utils import Cluster
from support import run_on, train

from raysplit.cluster.contract import LinkTraffic, PartySpec
from raysplit.cluster.layout import Layout, PlaceSpec
from raysplit.cluster.on_ray.cluster import RayCluster

_STORE_BYTES = 100 * 2**20


HEAD = {"num_cpus": 4, "resources": {"near": 1}, "object_store_memory": _STORE_BYTES}
NEAR = PlaceSpec(name="near", cpus=0.25, resources={"near": 0.01})
FAR = PlaceSpec(name="far", cpus=0.25, resources={"far": 0.01})


def lay_out(parties: Sequence[PartySpec]) -> Layout:
    """Every other party on the second machine; of the groups that come later, those of d, and of s with others."""
    names = sorted(party.name for party in parties)
    if "@" in names[0]:
        place = FAR if "-d" in names[0] or "-s+" in names[0] else NEAR
        return Layout(places=(place,), place_of=dict.fromkeys(names, place.name))
    return Layout(places=(NEAR, FAR), place_of={name: "far" if i % 2 else "near" for i, name in enumerate(names)})


class Machines(RayCluster):
    """Loses the second machine a moment after the beginning of a round."""

    def __init__(self, machines: Cluster, round: int) -> None:
        super().__init__(lay_out, placement_timeout_s=120)
        self.is_gone = False
        self._machines = machines
        self._second = self._another()
        self._calls_left = 2 * round - 1  # asked before and after every round

    def _another(self) -> Any:
        return self._machines.add_node(wait=False, num_cpus=4, resources={"far": 1}, object_store_memory=_STORE_BYTES)

    async def traffic(self) -> list[LinkTraffic]:
        counts = await super().traffic()
        self._calls_left -= 1
        if self._calls_left == 0:
            asyncio.get_running_loop().call_later(0.02, self._lose)
        return counts

    def _lose(self) -> None:
        self.is_gone = True
        self._machines.remove_node(self._second, allow_graceful=False)
        self._another()


def main(name: str, round: int) -> None:
    torch.set_num_threads(1)
    machines = Cluster(initialize_head=True, head_node_args=HEAD)
    cluster = Machines(machines, round)
    ray.init(address=machines.address, log_to_driver=False)
    more = changes(name, reliability={"place_timeout_s": 20})
    there, here = run_on(cluster, **more), train(**more)
    assert cluster.is_gone
    assert same_models(there.states, here.states)
    assert [row["train_loss"] for row in there.rows] == [row["train_loss"] for row in here.rows]
    print("equal")
    ray.shutdown()
    machines.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
