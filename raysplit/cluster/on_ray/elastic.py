"""`ElasticRayCluster`: places start one by one, as Ray finds room for them, and leave when they are lost.

Every place has a placement group of its own, which stays pending until there is room; an autoscaler sees the pending
request. A lost place is requested again at once and returns with newly created parties.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from raysplit.cluster.contract import Handle, Membership, PartySpec, PlaceLost, Repaired
from raysplit.cluster.layout import Layout, PlaceSpec
from raysplit.cluster.links.rules import PLAIN, LinkRules
from raysplit.cluster.on_ray.answers import silent, unwrapped
from raysplit.cluster.on_ray.cluster import RayCluster
from raysplit.cluster.on_ray.places import Places

logger = logging.getLogger(__name__)

_POLL_S = 0.2


class ElasticRayCluster(RayCluster):
    """A cluster in which the parties whose places are up take part; `members` adds those that are new.

    Args:
        lay_out: function that assigns parties to places. Ray's placement strategies do not apply between the places.
        links: codecs and taps on the values that parties send; by default none.
    """

    def __init__(self, lay_out: Callable[[Sequence[PartySpec]], Layout], *, links: LinkRules = PLAIN) -> None:
        super().__init__(lay_out, links=links)
        self._layout = Layout(places=(), place_of={})
        self._described: dict[str, PartySpec] = {}
        self._coming: dict[str, asyncio.Task[Places]] = {}

    async def deploy(self, parties: Sequence[PartySpec]) -> dict[str, Handle]:
        """Request all places and return no handles; `members` returns those of the parties that are up."""
        self._layout = self._lay_out(parties)
        self._described = {party.name: party for party in parties}
        self._before = await self._counted()
        for place in self._layout.places:
            self._ask(place)
        return {}

    async def members(self) -> Membership:
        came: list[str] = []
        for name in [name for name, coming in self._coming.items() if coming.done()]:
            self._apart[name] = await self._coming.pop(name)
            inhabitants = self._inhabitants(name)
            self._place_of |= dict.fromkeys(inhabitants, name)
            came += inhabitants
            logger.info("place %s is up with %d parties", name, len(inhabitants))
        return Membership(handles=self._handles(self._place_of), came=tuple(came), num_places=len(self._apart))

    async def repair(self, parties: Sequence[PartySpec], lost: str, silence_s: float) -> Repaired:
        """Remove lost places and request them again."""
        self._described = {party.name: party for party in parties}
        gone = await silent({name: actor for name, actor in self._actors().items() if name != lost}, silence_s)
        if lost in self._apart:
            gone[lost] = "it was reported lost"
        left = tuple(name for name, place in self._place_of.items() if place in gone)
        for name, reason in gone.items():
            logger.warning("place %s left with %d parties: %s", name, len(self._inhabitants(name)), reason)
            self._apart.pop(name).close()
            self._ask(next(place for place in self._layout.places if place.name == name))
        for name in left:
            del self._place_of[name]
        self._before = await self._counted()
        return Repaired(handles=self._handles(self._place_of), remade=left)

    def _ask(self, place: PlaceSpec) -> None:
        self._coming[place.name] = asyncio.ensure_future(self._start(place))

    async def _start(self, place: PlaceSpec) -> Places:
        """Wait for room, then start the place and its parties; begin again if its machine is lost meanwhile."""
        while True:
            places = self._new_places()
            try:
                places.ask((place,))
                while not places.has_room():
                    await asyncio.sleep(_POLL_S)
                places.begin()
                inhabitants = [self._described[name] for name in self._inhabitants(place.name)]
                made = self._have_made(places.actors[place.name], inhabitants)
                self._processors.add(place.name, await unwrapped(made, place.name))
            except PlaceLost as lost:
                places.close()
                logger.warning("place %s was lost while it started: %s", place.name, lost.reason)
            except BaseException:
                places.close()
                raise
            else:
                return places

    def _inhabitants(self, place: str) -> list[str]:
        return [name for name, home in self._layout.place_of.items() if home == place]

    async def close(self) -> None:
        coming = list(self._coming.values())
        self._coming.clear()
        for task in coming:
            task.cancel()
        for ended in await asyncio.gather(*coming, return_exceptions=True):
            if isinstance(ended, Places):  # it was up before it could be canceled
                ended.close()
        await super().close()
