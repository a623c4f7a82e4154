"""`RayCluster`: parties in actors, one actor (process) per place, one placement-group bundle per place.

A place is an async actor that holds any number of parties; a party that waits does not block the others. A call to a
party in the same process is a plain call; any other is an actor call whose promise is an ``ObjectRef``, so a value that
is passed on moves from the process that computed it to the process that needs it, never through the driver.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from raysplit.cluster.contract import Handle, LinkTraffic, Membership, PartyLoad, PartySpec, PlaceLost, Repaired
from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.emulation.machines import Emulate, Emulation
from raysplit.cluster.guarded_link import make_link
from raysplit.cluster.layout import Layout
from raysplit.cluster.links.kinds import Crossing, declared
from raysplit.cluster.links.rules import PLAIN, LinkRules
from raysplit.cluster.links.traffic import difference, merge_traffic
from raysplit.cluster.load import merge_loads
from raysplit.cluster.on_ray.answers import asked, silent, unwrapped
from raysplit.cluster.on_ray.home import Home
from raysplit.cluster.on_ray.no_room import short_of
from raysplit.cluster.on_ray.place import RayHandle
from raysplit.cluster.on_ray.places import PlacementError as PlacementError
from raysplit.cluster.on_ray.places import Places as Places
from raysplit.cluster.on_ray.places import explain, machines
from raysplit.cluster.processors import Processors

logger = logging.getLogger(__name__)


class RayCluster:
    """A cluster whose parties live in actors on a connected Ray (`raysplit.cluster.on_ray.connect.connect`).

    Args:
        lay_out: function that assigns parties to places (`raysplit.cluster.layout.lay_out`).
        strategy: Ray's placement strategy for the places: PACK, SPREAD, STRICT_PACK or STRICT_SPREAD.
        placement_timeout_s: seconds to wait for room before `PlacementError` is raised.
        places: running places to use and leave running; by default the cluster starts its own and ends them.
        emulate: function that describes the machines and links that pace the run; without it nothing is paced.
        links: codecs and taps on the values that parties send; by default none.

    Attributes:
        log: events of an emulated run, complete once the cluster is closed.

    Example::

        total = connect(RayOptions())
        cluster = RayCluster(partial(lay_out, num_places=None, cpus=total["CPU"]))
        handles = await cluster.deploy(parties)
        ...
        await cluster.close()
    """

    def __init__(
        self,
        lay_out: Callable[[Sequence[PartySpec]], Layout],
        *,
        strategy: str = "PACK",
        placement_timeout_s: float = 60.0,
        places: Places | None = None,
        emulate: Emulate | None = None,
        links: LinkRules = PLAIN,
    ) -> None:
        self._lay_out = lay_out
        self._links = links
        self._processors = Processors(links)
        self._home = Home(link=make_link(links))  # the driver's
        self._declared: dict[str, Mapping[str, Crossing]] = {}  # the verbs that parties declare, by party
        self._emulate = emulate
        self.log = EventLog()
        self._placement_timeout_s = placement_timeout_s
        self._emulation: Emulation | None = None
        self._own = places is None
        self._new_places = partial(Places, strategy=strategy, timeout_s=placement_timeout_s)
        self._places = places or self._new_places()
        self._apart: dict[str, Places] = {}  # by label of the set of added parties
        self._added: dict[str, PartySpec] = {}
        self._place_of: dict[str, str] = {}
        self._before: list[LinkTraffic] = []
        self._ended: list[LinkTraffic] = []  # the counts of places that were removed

    async def deploy(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        layout = self._lay_out(parties)
        await self._places.open(layout.places)
        actors, self._place_of = self._places.actors, dict(layout.place_of)
        self._emulation = self._emulate(parties) if self._emulate is not None else None
        made = {
            name: self._have_made(actor, [p for p in parties if layout.place_of[p.name] == name])
            for name, actor in actors.items()
        }
        for name, done in made.items():
            self._processors.add(name, await unwrapped(done, name))
        self._before = await self._counted()
        logger.info("%d parties on %d places", len(parties), len(actors))
        return self._handles(layout.place_of)

    async def add(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        """Create further parties, each in the original place with the fewest parties."""
        num_parties = Counter(place for place in self._place_of.values() if place in self._places.actors)
        place_of = {}
        for party in parties:
            place = min(sorted(self._places.actors), key=lambda name: num_parties[name])
            num_parties[place] += 1
            place_of[party.name] = place
        await self._make_more(parties, place_of, self._places.actors)
        return self._handles([party.name for party in parties])

    async def add_apart(self, sets: Mapping[str, Sequence[PartySpec]]) -> dict[str, Handle]:
        """Create each set in a placement group of its own, laid out like the first parties."""
        layouts = {label: self._lay_out(parties) for label, parties in sets.items()}
        specs = {
            label: tuple(replace(place, name=f"{label}-{place.name}") for place in layout.places)
            for label, layout in layouts.items()
        }
        wanted = [place for places in specs.values() for place in places]
        if short_of(wanted, machines()):
            raise PlacementError(explain(wanted, 0.0))
        opened = {label: self._new_places() for label in specs}
        place_of = {
            party: f"{label}-{place}" for label, layout in layouts.items() for party, place in layout.place_of.items()
        }
        parties = [party for members in sets.values() for party in members]
        try:
            for label, places in opened.items():
                await places.open(specs[label])
            actors = {name: actor for places in opened.values() for name, actor in places.actors.items()}
            await self._make_more(parties, place_of, actors)
        except BaseException:  # also when the round is canceled
            for places in opened.values():
                places.close()
            raise
        self._apart |= opened
        return self._handles([party.name for party in parties])

    async def remove(self, names: Sequence[str]) -> None:
        """Remove parties: forget them first, then drop them, so that none is left over if this is interrupted."""
        there = self._actors()
        homes = {name: self._place_of.pop(name) for name in names if name in self._place_of}
        for name in homes:
            self._added.pop(name, None)
        inhabited = set(self._place_of.values())
        empty = [label for label, places in self._apart.items() if not inhabited & places.actors.keys()]
        ended = [self._apart.pop(label) for label in empty]
        ending = {name: actor for places in ended for name, actor in places.actors.items()}
        dropped = {
            name: (place, there[place].drop.remote([name])) for name, place in homes.items() if place not in ending
        }
        try:
            for place, done in dropped.values():
                await unwrapped(done, place)
            self._ended = merge_traffic([self._ended, *await asked(ending, "traffic")])
        finally:
            for places in ended:
                places.close()

    async def _make_more(
        self, parties: Sequence[PartySpec], place_of: Mapping[str, str], actors: Mapping[str, Any]
    ) -> None:
        """Create parties in these places; register them when all of them exist."""
        made = {}
        for name, actor in actors.items():
            inhabitants = [p for p in parties if place_of[p.name] == name]
            if inhabitants:
                made[name] = self._have_made(actor, inhabitants, more=name in self._places.actors)
        for name, done in made.items():
            kind = await unwrapped(done, name)
            if kind is not None:
                self._processors.add(name, kind)
        self._place_of |= place_of
        self._added |= {party.name: party for party in parties}

    def _handles(self, names: Iterable[str]) -> dict[str, Handle]:
        place_of, actors = self._place_of, self._actors()
        return {
            name: RayHandle(name, place_of[name], actors[place_of[name]], self._declared.get(name, {}), self._home)
            for name in names
        }

    def _have_made(self, actor: Any, parties: Sequence[PartySpec], *, more: bool = False) -> Any:
        """Start to create parties in a place: beside its parties (``more``), or instead of them."""
        self._declared |= {party.name: declared(party.build) for party in parties}
        return actor.add.remote(parties) if more else actor.make.remote(parties, self._emulation, self._links)

    def _actors(self) -> dict[str, Any]:
        return {
            name: actor for places in (self._places, *self._apart.values()) for name, actor in places.actors.items()
        }

    async def watch(self, silence_s: float) -> None:
        while True:
            for name, reason in (await silent(self._actors(), silence_s)).items():
                raise PlaceLost(name, reason)
            await asyncio.sleep(silence_s / 2)

    async def repair(self, parties: Sequence[PartySpec], lost: str, silence_s: float) -> Repaired:
        described = {**self._added, **{party.name: party for party in parties}}
        gone = await silent({name: actor for name, actor in self._actors().items() if name != lost}, silence_s)
        if lost in self._place_of.values():
            gone[lost] = "it was reported lost"
        remade = tuple(name for name, place in self._place_of.items() if place in gone)
        homes = {name: places for places in (self._places, *self._apart.values()) for name in places.actors}
        made = {}
        for name in gone:
            inhabitants = [described[party] for party, place in self._place_of.items() if place == name]
            made[name] = self._have_made(homes[name].renew(name), inhabitants)
        for name, done in made.items():
            if name in self._actors():  # else its set has been removed
                await self._come_back(name, done, homes[name])
        self._before = await self._counted()
        return Repaired(handles=self._handles(self._place_of), remade=remade)

    async def _come_back(self, name: str, made: Any, places: Places) -> None:
        """Wait for a restarted place; if it finds no room, remove the set that it belongs to."""
        try:
            self._processors.add(name, await asyncio.wait_for(unwrapped(made, name), self._placement_timeout_s))
        except TimeoutError:
            missing = explain([place for place in places.specs if place.name == name], self._placement_timeout_s)
            if places is self._places:
                raise PlaceLost(name, missing) from None
            logger.warning("place %s cannot be restarted: %s", name, missing)
            self._give_up(places)
        else:
            logger.info("place %s has been restarted", name)

    def _give_up(self, places: Places) -> None:
        """Remove a set from `add_apart`."""
        names = places.actors.keys()
        for party in [party for party, place in self._place_of.items() if place in names]:
            del self._place_of[party], self._added[party]
        self._apart = {label: others for label, others in self._apart.items() if others is not places}
        places.close()

    async def members(self) -> Membership:
        return Membership(handles=self._handles(self._place_of), came=(), num_places=len(self._actors()))

    async def traffic(self) -> list[LinkTraffic]:
        return difference(await self._counted(), self._before)

    async def party_loads(self) -> list[PartyLoad]:
        return merge_loads(await asked(self._actors(), "party_loads"))

    async def _counted(self) -> list[LinkTraffic]:
        return merge_traffic([self._home.link.traffic(), self._ended, *await asked(self._actors(), "traffic")])

    async def _collect(self) -> None:
        """Collect the events of all places that still answer."""
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
