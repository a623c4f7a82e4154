"""The running places of a cluster: Ray actors in one placement group, with a bundle for each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raysplit.cluster.contract import NoRoom
from raysplit.cluster.layout import PlaceSpec
from raysplit.cluster.on_ray.connect import control_answers
from raysplit.cluster.on_ray.no_room import MachineRoom, no_room
from raysplit.cluster.on_ray.place import PULSE, Place

_GROUP_LABEL = "ray.io/node-group"  # a label of machines that an autoscaler started


class PlacementError(NoRoom):
    """Error raised when Ray has no room for the places; the message says what is missing."""


class Places:
    """The running places of a layout: actors in one placement group.

    By default a run's places end with the run. Since a process takes seconds to start, consecutive runs can share them:
    pass the same ``Places`` to every `RayCluster` and close it at the end.

    Args:
        strategy: Ray's placement strategy.
        timeout_s: seconds to wait for room.
    """

    def __init__(self, *, strategy: str = "PACK", timeout_s: float = 60.0) -> None:
        self._strategy = strategy
        self._timeout_s = timeout_s
        self._group: Any = None
        self.specs: tuple[PlaceSpec, ...] = ()
        self.actors: dict[str, Any] = {}

    async def open(self, specs: tuple[PlaceSpec, ...]) -> None:
        """Start exactly these places, or keep them if they run; raise `PlacementError` if there is no room."""
        if specs == self.specs:
            return
        self.close()
        self.ask(specs)
        if not await asyncio.to_thread(self._group.wait, self._timeout_s):
            missing = explain(specs, self._timeout_s, self._strategy)
            self.close()
            raise PlacementError(missing)
        self.begin()

    def ask(self, specs: tuple[PlaceSpec, ...]) -> None:
        """Request room from Ray; the request stays pending, visible to an autoscaler, until there is room."""
        labels = [dict(place.labels) for place in specs]
        self._group = placement_group(
            [place.bundle() for place in specs],
            strategy=self._strategy,
            bundle_label_selector=labels if any(labels) else None,
        )
        self.specs = specs

    def has_room(self) -> bool:
        """Return whether the requested room is reserved."""
        return bool(self._group.wait(0))

    def begin(self) -> None:
        """Start the places in their reserved room."""
        self.actors = {place.name: self._start(place, index) for index, place in enumerate(self.specs)}

    def close(self) -> None:
        """End all places; further calls do nothing. Without Ray's control process nothing can be ended."""
        if self._group is not None and control_answers():
            for actor in self.actors.values():
                ray.kill(actor)
            remove_placement_group(self._group)
        self.actors, self._group, self.specs = {}, None, ()

    def renew(self, name: str) -> Any:
        """Restart one place in its bundle, which Ray moves to another machine if the machine is lost."""
        ray.kill(self.actors[name])
        (index,) = [i for i, place in enumerate(self.specs) if place.name == name]
        self.actors[name] = self._start(self.specs[index], index)
        return self.actors[name]

    def _start(self, place: PlaceSpec, index: int) -> Any:
        where = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=index)
        options = ray.remote(concurrency_groups={PULSE: 1})(Place).options(
            num_cpus=place.cpus,
            num_gpus=place.gpus,
            memory=place.memory_bytes or None,
            resources=dict(place.resources),
            max_concurrency=10_000,
            max_restarts=0,
            enable_task_events=False,  # several per batch, of which Ray would keep only the latest
            scheduling_strategy=where,
        )
        return options.remote(place.name)


def machines() -> list[MachineRoom]:
    """Return the live machines; the kind is the label ``kind``, the autoscaler's group, or the node's name."""
    free = available_resources_per_node()
    return [
        MachineRoom(
            kind=labels.get("kind") or labels.get(_GROUP_LABEL) or node["NodeName"],
            total=node["Resources"],
            free=free.get(node["NodeID"], {}),
            labels=labels,
        )
        for node in ray.nodes()
        if node["Alive"]
        for labels in [node["Labels"]]
    ]


def explain(places: Sequence[PlaceSpec], waited_s: float, strategy: str = "PACK") -> str:
    """Return the message that says why there is no room for these places."""
    there = machines()
    autoscaled = any(_GROUP_LABEL in machine.labels for machine in there)
    return no_room(places, there, strategy=strategy, waited_s=waited_s, autoscaled=autoscaled)
