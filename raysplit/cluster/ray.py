"""`RayCluster`: parties in actors, one actor (process) per place, one placement-group bundle per place.

A place is an async actor: any number of parties live in it, and a party that waits holds nobody up. A call to a party
in the same process is a plain call; any other is an actor call whose promise is an ``ObjectRef``, so a value that is
passed on goes from its maker's process to its user's and never through the driver.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import ray
from ray._private.state import available_resources_per_node
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raysplit.cluster.contract import Handle, Healed, LinkTraffic, NoRoom, PartySpec, PlaceLost
from raysplit.cluster.emulation import Emulate, Emulation
from raysplit.cluster.events import EventLog
from raysplit.cluster.placement_text import MachineRoom, no_room, short_of
from raysplit.cluster.ray_place import METER, PULSE, Place, RayHandle, asked, silent, unwrapped
from raysplit.cluster.topology import Layout, PlaceSpec
from raysplit.cluster.wire import difference, merge_traffic

logger = logging.getLogger(__name__)

_GROUP_LABEL = "ray.io/node-group"  # on machines that an autoscaler has started


class PlacementError(NoRoom):
    """The cluster has no room for a place; the message says what is missing."""


class Places:
    """The running places of a layout: actors in one placement group.

    A run's places end with it. Runs that follow each other can share them, since a process takes seconds to start:
    give every `RayCluster` the same ``Places`` and close it at the end.
    """

    def __init__(self, *, strategy: str = "PACK", timeout_s: float = 60.0) -> None:
        self._strategy = strategy
        self._timeout_s = timeout_s
        self._group: Any = None
        self.specs: tuple[PlaceSpec, ...] = ()
        self.actors: dict[str, Any] = {}

    async def open(self, specs: tuple[PlaceSpec, ...]) -> None:
        """Have exactly these places running; raises `PlacementError` when there is no room for them."""
        if specs == self.specs:
            return
        self.close()
        labels = [dict(place.labels) for place in specs]
        self._group = placement_group(
            [place.bundle() for place in specs],
            strategy=self._strategy,
            bundle_label_selector=labels if any(labels) else None,
        )
        if not await asyncio.to_thread(self._group.wait, self._timeout_s):
            missing = _explain(specs, self._timeout_s, self._strategy)
            self.close()
            raise PlacementError(missing)
        self.actors = {place.name: self._start(place, index) for index, place in enumerate(specs)}
        self.specs = specs

    def close(self) -> None:
        """End the places. Idempotent."""
        for actor in self.actors.values():
            ray.kill(actor)
        if self._group is not None:
            remove_placement_group(self._group)
        self.actors, self._group, self.specs = {}, None, ()

    def renew(self, name: str) -> Any:
        """End one place, if it is still there, and start it again in its bundle; Ray moves that off a lost machine."""
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
            scheduling_strategy=where,
        )
        return options.remote(place.name)


class RayCluster:
    """Parties on a Ray cluster that is already connected (`raysplit.cluster.launch.connect`).

    Args:
        lay_out: puts parties on places.
        strategy: Ray's placement strategy for the places (PACK, SPREAD, STRICT_PACK, STRICT_SPREAD).
        placement_timeout_s: how long to wait for room before giving up with the reason.
        places: running places to use and leave running; by default the cluster's own, which end with it.
        emulate: makes the machines and links that the run is paced like; by default it runs as it can.

    Attributes:
        log: what happened in an emulated run, once it is closed.
    """

    def __init__(
        self,
        lay_out: Callable[[Sequence[PartySpec]], Layout],
        *,
        strategy: str = "PACK",
        placement_timeout_s: float = 60.0,
        places: Places | None = None,
        emulate: Emulate | None = None,
    ) -> None:
        self._lay_out = lay_out
        self._emulate = emulate
        self.log = EventLog()
        self._placement_timeout_s = placement_timeout_s
        self._emulation: Emulation | None = None
        self._own = places is None
        self._new_places = partial(Places, strategy=strategy, timeout_s=placement_timeout_s)
        self._places = places or self._new_places()
        self._apart: dict[str, Places] = {}  # by set of parties that came later
        self._place_of: dict[str, str] = {}
        self._before: list[LinkTraffic] = []
        self._ended: list[LinkTraffic] = []  # what places that are no more have counted

    async def deploy(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        layout = self._lay_out(parties)
        await self._places.open(layout.places)
        actors = self._places.actors
        self._emulation = self._emulate(parties) if self._emulate is not None else None
        made = {
            name: actor.make.remote([p for p in parties if layout.place_of[p.name] == name], self._emulation)
            for name, actor in actors.items()
        }
        for name, done in made.items():
            await unwrapped(done, name)
        self._before = await self._counted()
        logger.info("%d parties on %d places", len(parties), len(actors))
        self._place_of = dict(layout.place_of)
        return self._handles(parties)

    async def add(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        """More parties, each in the place of the first ones that has the fewest."""
        crowd = Counter(place for place in self._place_of.values() if place in self._places.actors)
        for party in parties:
            place = min(sorted(self._places.actors), key=lambda name: crowd[name])
            crowd[place] += 1
            self._place_of[party.name] = place
        return await self._made(parties)

    async def add_apart(self, sets: Mapping[str, Sequence[PartySpec]]) -> dict[str, Handle]:
        """Every set in a placement group of its own, laid out as the first parties were."""
        layouts = {label: self._lay_out(parties) for label, parties in sets.items()}
        specs = {
            label: tuple(replace(place, name=f"{label}-{place.name}") for place in layout.places)
            for label, layout in layouts.items()
        }
        wanted = [place for places in specs.values() for place in places]
        if short_of(wanted, _machines()):
            raise PlacementError(_explain(wanted, 0.0))
        try:
            for label, places in specs.items():
                self._apart[label] = self._new_places()
                await self._apart[label].open(places)
        except PlacementError:
            for label in specs.keys() & self._apart.keys():
                self._apart.pop(label).close()
            raise
        for label, layout in layouts.items():
            self._place_of |= {party: f"{label}-{place}" for party, place in layout.place_of.items()}
        return await self._made([party for parties in sets.values() for party in parties])

    async def remove(self, names: Sequence[str]) -> None:
        actors = self._actors()
        for name in names:
            place = self._place_of.pop(name)
            await unwrapped(actors[place].drop.remote([name]), place)
        inhabited = set(self._place_of.values())
        for label in [label for label, places in self._apart.items() if not inhabited & places.actors.keys()]:
            places = self._apart.pop(label)
            self._ended = merge_traffic([self._ended, *await asked(places.actors, "traffic")])
            places.close()

    async def _made(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        """Have added parties made where they belong."""
        homes = {self._place_of[party.name] for party in parties}
        actors = {name: actor for name, actor in self._actors().items() if name in homes}
        made = {
            name: actor.add.remote([p for p in parties if self._place_of[p.name] == name])
            for name, actor in actors.items()
        }
        for name, done in made.items():
            await unwrapped(done, name)
        return self._handles(parties)

    def _handles(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        place_of, actors = self._place_of, self._actors()
        return {p.name: RayHandle(p.name, place_of[p.name], actors[place_of[p.name]]) for p in parties}

    def _actors(self) -> dict[str, Any]:
        """All places by name."""
        return {
            name: actor for places in (self._places, *self._apart.values()) for name, actor in places.actors.items()
        }

    async def watch(self, silence_s: float) -> None:
        while True:
            for name, reason in (await silent(self._actors(), silence_s)).items():
                raise PlaceLost(name, reason)
            await asyncio.sleep(silence_s / 2)

    async def heal(self, parties: Sequence[PartySpec], lost: str, silence_s: float) -> Healed:
        """Make lost places of the first parties anew; what was added apart cannot be."""
        gone = await silent({name: actor for name, actor in self._actors().items() if name != lost}, silence_s)
        if lost in self._place_of.values():
            gone[lost] = "given up"
        for name, reason in gone.items():
            if name not in self._places.actors:
                raise PlaceLost(name, reason)
            actor = self._places.renew(name)
            made = actor.make.remote([p for p in parties if self._place_of[p.name] == name], self._emulation)
            try:
                await asyncio.wait_for(unwrapped(made, name), self._placement_timeout_s)
            except TimeoutError:
                specs = [place for place in self._places.specs if place.name == name]
                raise PlaceLost(name, _explain(specs, self._placement_timeout_s)) from None
            logger.info("place %s is made anew", name)
        self._before = await self._counted()
        remade = tuple(party.name for party in parties if self._place_of[party.name] in gone)
        return Healed(handles=self._handles(parties), remade=remade)

    async def traffic(self) -> list[LinkTraffic]:
        return difference(await self._counted(), self._before)

    async def _counted(self) -> list[LinkTraffic]:
        return merge_traffic([METER.records(), self._ended, *await asked(self._actors(), "traffic")])

    async def _collect(self) -> None:
        """The events of all places that still answer."""
        for name, actor in self._actors().items():
            try:
                self.log.extend(await unwrapped(actor.events.remote(), name))
            except PlaceLost as lost:
                logger.warning("the events of %s are lost with it: %s", lost.place, lost.reason)

    async def close(self) -> None:
        if self._emulate is not None:
            await self._collect()
        for places in self._apart.values():
            places.close()
        self._apart.clear()
        if self._own:
            self._places.close()


def _machines() -> list[MachineRoom]:
    """The machines that are alive; a kind is its label ``kind``, else its group under an autoscaler, else its name."""
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


def _explain(places: Sequence[PlaceSpec], waited_s: float, strategy: str = "PACK") -> str:
    machines = _machines()
    autoscaled = any(_GROUP_LABEL in machine.labels for machine in machines)
    return no_room(places, machines, strategy=strategy, waited_s=waited_s, autoscaled=autoscaled)
