"""Elastic runs on Ray: places that pend until there is room, machines that come and go; the same bits as by script."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray
from apart import printed_apart
from coming import replayed
from support import run_on, same

from raysplit.cluster.contract import Membership
from raysplit.cluster.layout import PlaceSpec, lay_out_elastic
from raysplit.cluster.on_ray.cluster import Places
from raysplit.cluster.on_ray.elastic import ElasticRayCluster
from raysplit.runs.result import Result

OWNERS = [f"owner-{i}" for i in range(3)]
KEEPING = {
    "rounds": 4,
    "batch_size": 16,
    "owner_optimizer_state": "keep",
    "optimizer": {"lr": 0.1, "momentum": 0.9},
}
CHANGES: dict[str, Any] = {
    "algorithm": {"name": "fedavg"},
    "training": KEEPING,
    "cluster__elastic": {"wait_s": 60},
    "reliability": {"on_lost_place": "drop"},
}


def history(result: Result) -> list[tuple[list[str], list[str], int]]:
    return [(row["came"], row["left"], row["num_places"]) for row in result.rows]


class Scripted(ElasticRayCluster):
    """Waits, before a round, for as many places as the script says; room for the second one comes after round 1."""

    def __init__(self, cpus_per_place: float, others: Places) -> None:
        lay_out = partial(lay_out_elastic, num_places=2, min_places=1, cpus_per_place=cpus_per_place)
        super().__init__(lay_out)
        self._others = others
        self._wanted = [1, 1, 2, 2, 1, 1, 2]  # the start, rounds 1 to 3, after the loss, rounds 3 and 4

    async def _start(self, place: PlaceSpec) -> Places:
        while place.name == "place-1" and "place-0" not in self._apart:  # Ray may serve them in any order
            await asyncio.sleep(0.1)
        return await super()._start(place)

    async def members(self) -> Membership:
        wanted = self._wanted.pop(0)
        if len(self._wanted) == 4:
            self._others.close()
        roll = await super().members()
        came = list(roll.came)
        while roll.num_places < wanted:
            await asyncio.sleep(0.1)
            roll = await super().members()
            came += roll.came
        if len(self._wanted) == 3:
            ray.kill(self._actors()["place-1"])
        return Membership(handles=roll.handles, came=tuple(came), num_places=roll.num_places)


def test_a_place_pends_until_there_is_room_and_comes_back_after_a_loss(ray_session: dict[str, float]) -> None:
    """Others hold the room that the second place needs; it comes, its process is killed, and it comes back."""
    cpus = int(ray.available_resources()["CPU"] / 2 * 100) / 100
    others = Places()
    asyncio.run(others.open((PlaceSpec(name="others", cpus=cpus),)))
    there = run_on(Scripted(cpus, others), **CHANGES)
    assert history(there) == [
        (["owner-0", "owner-2"], [], 1),
        (["owner-1"], [], 2),
        ([], ["owner-1"], 1),
        (["owner-1"], [], 2),
    ]
    assert same(there, run_on(replayed(there.rows, OWNERS), **CHANGES))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fedavg", "mpsl"])
def test_machines_come_and_go(name: str, tmp_path: Path) -> None:
    """A cluster in a process of its own: machines are added and removed in the midst of a run."""
    script = tmp_path / "machines.py"
    script.write_text(MACHINES[name], encoding="utf-8")
    assert "equal" in printed_apart(script, cwd=tmp_path)


_START = """
import asyncio, logging
from functools import partial

import ray, torch
from coming import replayed
from ray.cluster_utils import Cluster
from support import run_on, same, settings, train

from raysplit.cluster.contract import Membership
from raysplit.cluster.on_ray.elastic import ElasticRayCluster
from raysplit.cluster.layout import lay_out_elastic

torch.set_num_threads(1)
STORE = {"object_store_memory": 100 * 2**20}
machines = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **STORE})
ray.init(address=machines.address, log_to_driver=False)
added = []


class Machines(ElasticRayCluster):
    '''Before a round, what the script says is done; then it waits for as many places.'''

    def __init__(self, script, **layout):
        super().__init__(partial(lay_out_elastic, cpus_per_place=1, **layout))
        self.script = script

    async def members(self):
        act, wanted = self.script.pop(0)
        if act == "add":
            added.append(machines.add_node(wait=False, num_cpus=1, **STORE))
        if act == "remove":  # in the midst of the round that follows
            asyncio.get_running_loop().call_later(0.02, machines.remove_node, added.pop(), False)
        came = []
        while True:
            roll = await super().members()
            came += roll.came
            if roll.num_places >= wanted:
                return Membership(handles=roll.handles, came=tuple(came), num_places=roll.num_places)
            await asyncio.sleep(0.1)


def closed():
    ray.shutdown()
    machines.shutdown()
"""
MACHINES = {
    "fedavg": _START
    + """
more = {
    "algorithm": {"name": "fedavg"},
    "training": {"rounds": 5, "local_epochs": 40, "batch_size": 4, "optimizer": {"lr": 0.1, "momentum": 0.9}},
    "cluster__elastic": {"wait_s": 120},
    "reliability": {"on_lost_place": "drop", "place_timeout_s": 20},
}
more["training"]["owner_optimizer_state"] = "keep"
# the start, rounds 1 to 3, in which a machine goes; after the loss, round 3 again, 4, to which a machine comes, and 5
script = [("", 1), ("", 1), ("add", 2), ("remove", 2), ("", 1), ("", 1), ("add", 2), ("", 2)]
there = run_on(Machines(script, num_places=2, min_places=1), **more)
told = [(row["came"], row["left"], row["num_places"]) for row in there.rows]
away = ["owner-1"]
assert told == [(["owner-0", "owner-2"], [], 1), (away, [], 2), ([], away, 1), (away, [], 2), ([], [], 2)], told
assert same(there, run_on(replayed(there.rows, [f"owner-{i}" for i in range(3)]), **more))
closed()
print("equal")
""",
    "mpsl": _START
    + """
from raysplit.schedulers.cuts.profiles import Profile, UnitProfile
from raysplit.config.run import check_config
from raysplit.config.planned_cuts import with_planned_cuts
from raysplit.training.loop import run
from raysplit.config.build import build

logging.basicConfig(level=logging.INFO)
unit = dict(forward_ms=1000.0, backward_ms=1000.0, update_ms=0.0, activation_bytes=1000, parameter_bytes=1000)
units = tuple(UnitProfile(name=f"unit{i}", **unit) for i in range(5))
Profile(model="toy", device="toy", batch_size=4, units=units).to_parquet("toy.parquet")
more = {
    "model": {"name": "mlp", "hidden": [16, 12, 10, 8], "dtype": "float64"},
    "training": {"rounds": 5, "local_epochs": 5, "batch_size": 4, "optimizer": {"lr": 0.1, "momentum": 0.9}},
}
elastic = {
    "algorithm": {"name": "mpsl", "cuts": "auto", "units": [1, 3]},
    "topology": {"pace": False, "devices": {"vm": {"profile": "toy.parquet"}}, "owners": "vm", "nodes": ["vm"] * 2},
    "cluster__elastic": {"wait_s": 120},
    "cluster__placement_timeout_s": 1,
    "reliability": {"place_timeout_s": 20},
}
added.append(machines.add_node(num_cpus=1, **STORE))  # for the first of two compute nodes
script = [("", 2), ("", 2), ("add", 3), ("remove", 3), *[("", 2)] * 40]
config = with_planned_cuts(check_config(settings(**more, **elastic)))
cluster = Machines(script, num_places=1, min_places=1, apart=config.algorithm.options["on_offer"])
there = asyncio.run(run(build(config), cluster))
told = [sorted(row["nodes"]) for row in there.rows]
one, both = told[0], ["node-1", "node-2"]
assert len(one) == 1 and told[1] == both and len(told[2]) == 1, told
assert same(there, train(algorithm={"name": "fedavg"}, **more))
closed()
print("equal")
""",
}
