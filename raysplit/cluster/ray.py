"""`RayCluster`: parties in actors, one actor (process) per place, one placement-group bundle per place.

A place is an async actor: any number of parties live in it, and a party that waits holds nobody up. A call to a party
in the same process is a plain call; any other is an actor call whose promise is an ``ObjectRef``, so a value that is
passed on goes from its maker's process to its user's and never through the driver.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import ray
import torch
from ray._private.state import available_resources_per_node
from ray.exceptions import (
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayActorError,
    RayError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from raysplit.cluster.contract import Handle, Healed, LinkTraffic, NoRoom, PartySpec, PlaceLost, current_party
from raysplit.cluster.emulation import Emulate, Emulation, Network
from raysplit.cluster.events import EventLog
from raysplit.cluster.local import LocalHandle, LocalPromise
from raysplit.cluster.placement_text import MachineRoom, no_room, short_of
from raysplit.cluster.topology import Layout, PlaceSpec
from raysplit.cluster.wire import Envelope, TrafficMeter, difference, merge_traffic, num_bytes

logger = logging.getLogger(__name__)

_GROUP_LABEL = "ray.io/node-group"  # on machines that an autoscaler has started

# How Ray says that a process or a machine is gone, and with it what it held.
_GONE = (RayActorError, ObjectLostError, NodeDiedError, WorkerCrashedError, LocalRayletDiedError, OutOfMemoryError)

_PULSE = "pulse"

_meter = TrafficMeter()  # of this process
_here: Place | None = None  # the place that this process is, if it is one
_network: Network | None = None  # the described links of an emulated run


class PlacementError(NoRoom):
    """The cluster has no room for a place; the message says what is missing."""


class RayPromise:
    """The result of an actor call; awaiting it brings the value here and counts it."""

    def __init__(self, ref: Any, place: str) -> None:
        self.ref = ref
        self.place = place

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            envelope = yield from self.ref.__await__()
        except RayTaskError as error:
            raise _cause(error) from None
        except _GONE as error:
            raise PlaceLost(self.place, _first_line(error)) from None
        _meter.add(envelope.source, current_party.get(), envelope.num_bytes)
        if _network is not None and envelope.num_bytes:
            carried = _network.carry(envelope.source, current_party.get(), envelope.num_bytes, envelope.made_s)
            yield from carried.__await__()
        return envelope.value


class RayHandle:
    """The handle of a party in a place; picklable, it may travel to other parties."""

    def __init__(self, name: str, place: str, actor: Any) -> None:
        self.name = name
        self._place = place
        self._actor = actor

    def __getattr__(self, verb: str) -> Callable[..., RayPromise | LocalPromise]:
        if verb.startswith("_"):
            raise AttributeError(verb)
        return partial(self._call, verb)

    def __reduce__(self) -> tuple[type[RayHandle], tuple[str, str, Any]]:
        return RayHandle, (self.name, self._place, self._actor)

    def _call(self, verb: str, *args: Any, **kwargs: Any) -> RayPromise | LocalPromise:
        if _here is not None and _here.name == self._place:
            return LocalHandle(self.name, _here.parties[self.name], _meter, _network)._call(verb, *args, **kwargs)
        if any(isinstance(value, LocalPromise) for value in (*args, *kwargs.values())):
            return LocalPromise(
                asyncio.ensure_future(self._call_with_local_promises(verb, args, kwargs)), _meter, _network
            )
        return RayPromise(self._submit(verb, args, kwargs), self._place)

    def _submit(self, verb: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        caller = current_party.get()
        sent = [_outgoing(caller, value) for value in args]
        named = {key: _outgoing(caller, value) for key, value in kwargs.items()}
        return self._actor.call.remote(self.name, verb, *sent, **named)

    async def _call_with_local_promises(self, verb: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Envelope:
        """A promise of this process means nothing to Ray: its value is sent instead, under its maker's name."""
        args = [await _made_here(value) for value in args]
        kwargs = {key: await _made_here(value) for key, value in kwargs.items()}
        envelope: Envelope = await _unwrapped(self._submit(verb, args, kwargs), self._place)
        return envelope


async def _made_here(value: Any) -> Any:
    return await value.envelope() if isinstance(value, LocalPromise) else value


def _outgoing(caller: str, value: Any) -> Any:
    if isinstance(value, RayPromise):
        return value.ref
    if isinstance(value, Envelope) or not num_bytes(value):
        return value
    return Envelope(caller, value, _now_s())


def _now_s() -> float:
    return _network.now_s() if _network is not None else 0.0


class Place:
    """The actor: parties by name, and the count of what reached them."""

    def __init__(self, name: str) -> None:
        global _here
        torch.set_num_threads(1)
        torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # the first optimiser imports a second's worth of modules
        self.name = name
        self.parties: dict[str, Any] = {}
        self._emulation: Emulation | None = None
        _here = self

    async def make(self, specs: Sequence[PartySpec], emulation: Emulation | None) -> None:
        global _network
        self.parties.clear()
        self._emulation = emulation
        _network = None
        if emulation is not None:
            _network = emulation.network
        await self.add(specs)

    async def add(self, specs: Sequence[PartySpec]) -> None:
        for spec in self._emulation.equip(specs) if self._emulation is not None else specs:
            self.parties[spec.name] = spec.build(name=spec.name, **spec.arguments)

    async def drop(self, names: Sequence[str]) -> None:
        for name in names:
            del self.parties[name]

    async def call(self, party: str, verb: str, *args: Any, **kwargs: Any) -> Envelope:
        current_party.set(party)
        received = [await _received(party, value) for value in args]
        named = {key: await _received(party, value) for key, value in kwargs.items()}
        result = getattr(self.parties[party], verb)(*received, **named)
        if inspect.isawaitable(result):
            result = await result
        return Envelope(party, result, _now_s())

    @ray.method(concurrency_group=_PULSE)  # type: ignore[untyped-decorator]
    async def pulse(self) -> None:
        """Answered beside all work, so a place that answers is there however busy it is."""

    async def traffic(self) -> list[LinkTraffic]:
        return _meter.records()

    async def events(self) -> EventLog:
        """What has happened here in an emulated run."""
        return self._emulation.log if self._emulation is not None else EventLog()


async def _received(party: str, value: Any) -> Any:
    if not isinstance(value, Envelope):
        return value
    _meter.add(value.source, party, value.num_bytes)
    if _network is not None:
        await _network.carry(value.source, party, value.num_bytes, value.made_s)
    return value.value


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
        options = ray.remote(concurrency_groups={_PULSE: 1})(Place).options(
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
            await _unwrapped(done, name)
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
            await _unwrapped(actors[place].drop.remote([name]), place)
        inhabited = set(self._place_of.values())
        for label in [label for label, places in self._apart.items() if not inhabited & places.actors.keys()]:
            places = self._apart.pop(label)
            self._ended = merge_traffic([self._ended, *await _asked(places.actors, "traffic")])
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
            await _unwrapped(done, name)
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
            for name, reason in (await _silent(self._actors(), silence_s)).items():
                raise PlaceLost(name, reason)
            await asyncio.sleep(silence_s / 2)

    async def heal(self, parties: Sequence[PartySpec], lost: str, silence_s: float) -> Healed:
        """Make lost places of the first parties anew; what was added apart cannot be."""
        gone = await _silent({name: actor for name, actor in self._actors().items() if name != lost}, silence_s)
        if lost in self._place_of.values():
            gone[lost] = "given up"
        for name, reason in gone.items():
            if name not in self._places.actors:
                raise PlaceLost(name, reason)
            actor = self._places.renew(name)
            made = actor.make.remote([p for p in parties if self._place_of[p.name] == name], self._emulation)
            try:
                await asyncio.wait_for(_unwrapped(made, name), self._placement_timeout_s)
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
        return merge_traffic([_meter.records(), self._ended, *await _asked(self._actors(), "traffic")])

    async def _collect(self) -> None:
        """The events of all places that still answer."""
        for name, actor in self._actors().items():
            try:
                self.log.extend(await _unwrapped(actor.events.remote(), name))
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


async def _asked(actors: Mapping[str, Any], verb: str) -> list[Any]:
    """What all places answer."""
    asked = {name: getattr(actor, verb).remote() for name, actor in actors.items()}
    return [await _unwrapped(ref, name) for name, ref in asked.items()]


async def _silent(actors: Mapping[str, Any], silence_s: float) -> dict[str, str]:
    """The places that do not answer, and why that is known."""
    pulses = {name: asyncio.ensure_future(_unwrapped(actor.pulse.remote(), name)) for name, actor in actors.items()}
    if not pulses:
        return {}
    await asyncio.wait(pulses.values(), timeout=silence_s)
    found = {}
    for name, pulse in pulses.items():
        if not pulse.done():
            pulse.cancel()
            found[name] = f"it has not answered for {silence_s:g} s"
        elif isinstance(error := pulse.exception(), PlaceLost):
            found[name] = error.reason
        elif error is not None:
            raise error
    return found


async def _unwrapped(ref: Any, place: str) -> Any:
    try:
        return await ref
    except RayTaskError as error:
        raise _cause(error) from None
    except _GONE as error:
        raise PlaceLost(place, _first_line(error)) from None


def _cause(error: RayTaskError) -> BaseException:
    cause = error.cause
    while isinstance(cause, RayTaskError):
        cause = cause.cause
    if isinstance(cause, _GONE):
        return PlaceLost("unknown", _first_line(cause))
    return cause if isinstance(cause, BaseException) else RuntimeError(str(error))


def _first_line(error: RayError) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


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
