"""Build the emulated machines of the parties from a topology."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any, get_args

from raysplit.cluster.clock import Clock
from raysplit.cluster.contract import PartySpec
from raysplit.cluster.device import WorkKind
from raysplit.cluster.device_queue import QueueDevice
from raysplit.cluster.emulation.machines import Costs, Emulation, Machine
from raysplit.cluster.emulation.network import Interface
from raysplit.cluster.layout import Layout, PlaceSpec
from raysplit.cluster.links.rules import PLAIN, LinkRules
from raysplit.experiment.codec_costs import CodecCosts, RunRates
from raysplit.experiment.topology import DeviceOptions, Topology
from raysplit.prediction.dry_run import unit_counts
from raysplit.schedulers.cuts.profiles import OwnerTimes, Profile

_MS = 1e-3


def emulation(
    parties: Sequence[PartySpec],
    *,
    topology: Topology,
    clock: Clock,
    batch_size: int,
    processor_of: Mapping[str, str] | None = None,
    rules: LinkRules = PLAIN,
    codec_costs: CodecCosts | None = None,
    device_of: Mapping[str, str] | None = None,
) -> Emulation:
    """Build the emulation of parties on the machines of a topology.

    Args:
        parties: the parties.
        topology: the machines.
        clock: the clock of the run.
        batch_size: the batch size of the run; the times of a profile are scaled in proportion.
        processor_of: the processor of each party, where several share one; None gives each party its own.
        rules: codecs of the run.
        codec_costs: their seconds; None takes those of ``topology.codecs``.
        device_of: the device of every owner and node, where ``parties`` are not all of them.

    Raises:
        ValueError: a device has no times for the work of its parties.
    """
    device_of = party_devices(topology, parties) if device_of is None else device_of
    known: dict[tuple[str, tuple[Any, ...], int], Costs] = {}  # there are many owners and few kinds of parts

    def costs_of(device: str, recipe: Any) -> Costs:
        key = (device, tuple(recipe.cuts), recipe.index)
        if key not in known:
            known[key] = part_costs(device, topology.devices[device], *key[1:], batch_size)
        return known[key]

    connections = {name: interface(device) for name, device in topology.devices.items()}
    ahead_s = _shifts(topology, device_of)
    machines = {}
    for party in parties:
        if party.role not in ("owner", "node"):
            continue
        name = device_of[party.name]
        recipes = party.arguments.get("recipes", (party.arguments.get("recipe"),))
        by_owner = recipes if isinstance(recipes, Mapping) else {}
        machines[party.name] = Machine(
            device=(processor_of or {}).get(party.name, party.name),
            costs={} if by_owner else {k: s for recipe in recipes for k, s in costs_of(name, recipe).items()},
            owner_costs={owner: costs_of(name, recipe) for owner, recipe in by_owner.items()},
            interface=_ahead(connections[name], ahead_s.get(party.name, 0.0)),
            policy=_policy(party),
            coding_slowdown=topology.devices[name].node_kind(name).slowdown,
            host=topology.devices[name].host,
        )
    if topology.aggregator is not None:
        access = connections[topology.aggregator]
        machines |= {p.name: Machine(device=p.name, interface=access) for p in parties if p.role == "aggregator"}
    costs = (codec_costs or topology.codec_costs) if rules.all_codecs else None
    rates = RunRates(rules, costs) if costs is not None else None
    return Emulation(machines, clock, host_cores=topology.hosts, place_of=processor_of, rates=rates)


def _policy(party: PartySpec) -> str:
    device = party.arguments.get("device")
    return device.policy if isinstance(device, QueueDevice) else "fifo"


def observation(parties: Sequence[PartySpec], *, clock: Clock) -> Emulation:
    """Build an emulation that slows nothing down and logs all work."""
    nothing: Costs = defaultdict(float)
    machines = {
        party.name: Machine(device=party.name, costs=nothing, policy=_policy(party))
        for party in parties
        if party.role != "evaluator"
    }
    return Emulation(machines, clock)


def expected_work(parties: Sequence[PartySpec], topology: Topology, batch_size: int) -> dict[str, float] | None:
    """Return the seconds of computing by party for one batch of every owner; None where a device has no profile.

    It is None for a paced run too, because the described devices do not have the times of this machine.
    """
    num_owners = sum(party.role == "owner" for party in parties)
    device_of = party_devices(topology, parties)
    if topology.pace or any(topology.devices[device].measured is None for device in device_of.values()):
        return None
    work = {}
    for party in parties:
        if party.name not in device_of:
            continue
        device = device_of[party.name]
        recipes = party.arguments.get("recipes", (party.arguments.get("recipe"),))
        seconds = 0.0
        for recipe in recipes.values() if isinstance(recipes, Mapping) else recipes:
            costs = part_costs(device, topology.devices[device], tuple(recipe.cuts), recipe.index, batch_size)
            seconds += costs[recipe.index, "loss"] + costs[recipe.index, "update"]  # "loss" is forward and backward
        for_all = party.role == "node" and not isinstance(recipes, Mapping)
        work[party.name] = seconds * (num_owners if for_all else 1)
    return work


def party_devices(topology: Topology, parties: Sequence[PartySpec]) -> dict[str, str]:
    """Return the device of every owner and compute node."""
    owners = [party.name for party in parties if party.role == "owner"]
    nodes = [party.name for party in parties if party.role == "node"]
    if len(owners) == 1 and not isinstance(topology.owners, str):  # a centralized run has the device of the first owner
        devices = {owners[0]: next(iter(topology.owners))}
    else:
        devices = dict(zip(owners, topology.owner_devices(len(owners)), strict=True))
    return devices | {name: node_device(topology, name, i, len(nodes)) for i, name in enumerate(nodes)}


def with_resources(layout: Layout, topology: Topology, parties: Sequence[PartySpec]) -> Layout:
    """Return the layout with places that request the resources and labels of their parties' devices.

    A place whose parties need different machines is divided into one place per kind of machine, with equal shares of
    its processors.
    """
    device_of = party_devices(topology, parties)
    needs = {
        party: device
        for party, device in device_of.items()
        if topology.devices[device].resources or topology.devices[device].labels
    }
    kinds: defaultdict[str, dict[str | None, None]] = defaultdict(dict)
    for party, name in layout.place_of.items():
        kinds[name][needs.get(party)] = None
    places: list[PlaceSpec] = []
    for place in layout.places:
        parts = kinds[place.name]
        for kind in parts:
            device = topology.devices[kind] if kind is not None else None
            places.append(
                replace(
                    place,
                    name=_part_name(place.name, kind, parts),
                    cpus=int(place.cpus / len(parts) * 10_000) / 10_000,
                    gpus=int(place.gpus / len(parts) * 10_000) / 10_000,
                    resources={**place.resources, **(device.resources if device else {})},
                    labels={**place.labels, **(device.labels if device else {})},
                )
            )
    place_of = {party: _part_name(name, needs.get(party), kinds[name]) for party, name in layout.place_of.items()}
    return replace(layout, places=tuple(places), place_of=place_of)


def _part_name(place: str, kind: str | None, kinds: Mapping[str | None, None]) -> str:
    return place if len(kinds) == 1 or kind is None else f"{place}-{kind}"


def node_device(topology: Topology, node: str, index: int, num_nodes: int) -> str:
    """Return the device of a compute node: the third of ``topology.nodes`` for ``node-3``; other names by order."""
    prefix, _, number = node.rpartition("-")
    place = int(number) - 1 if prefix == "node" and number.isdigit() else index
    if not 0 <= place < len(topology.nodes):
        raise ValueError(
            f"topology.nodes has {len(topology.nodes)} devices and the run has {num_nodes} compute nodes, with {node}; "
            f"give a device for each, in the order node-1, node-2, ..."
        )
    return topology.nodes[place]


def interface(device: DeviceOptions) -> Interface:
    """Return the network interface of a device; of a trace, the means stand beside it."""
    trace = device.link_trace
    return Interface(
        up_bytes_per_s=inf if device.up_bytes_per_s is None else device.up_bytes_per_s,
        down_bytes_per_s=inf if device.down_bytes_per_s is None else device.down_bytes_per_s,
        latency_s=device.latency_ms * _MS if trace is None else trace.mean(trace.latencies_s),
        serial=device.serial_link,
        trace=trace,
    )


def _shifts(topology: Topology, device_of: Mapping[str, str]) -> dict[str, float]:
    """Return how far the parties on devices with ``trace_shift_s`` are ahead in their traces."""
    shifted = {name: device.trace_shift_s for name, device in topology.devices.items() if device.trace_shift_s}
    seen: Counter[str] = Counter()
    found: dict[str, float] = {}
    for party, name in device_of.items() if shifted else ():
        if name in shifted:
            found[party] = seen[name] * shifted[name]
            seen[name] += 1
    return found


def _ahead(connection: Interface, shift_s: float) -> Interface:
    """Return the connection of a party that is further in its trace."""
    if connection.trace is None or not shift_s:
        return connection
    return replace(connection, trace=replace(connection.trace, ahead_s=shift_s))


def part_costs(name: str, device: DeviceOptions, cuts: tuple[Any, ...], index: int, batch_size: int) -> Costs:
    """Return the seconds per batch of every kind of work on a part of the model.

    Raises ``ValueError`` for a device without times for the part.
    """
    slowdown = device.node_kind(name).slowdown
    if device.owner is not None:
        times = _ends_ms(name, device.owner, index, len(cuts))
    elif device.measured is not None:
        times = _units_ms(device.measured, cuts, index, batch_size / device.measured.batch_size)
    else:
        raise ValueError(
            f"device {name!r} has no times: give it a profile (raysplit profile measures one) or, for an owner, times"
        )
    beside = device.step_overhead_ms
    return {
        (index, kind): (times[kind] * slowdown + beside) * _MS if kind in times else 0.0 for kind in get_args(WorkKind)
    }


def _units_ms(profile: Profile, cuts: tuple[Any, ...], index: int, rows: float) -> dict[WorkKind, float]:
    # rows is the batch size of the run over that of the profile; the time of an update does not depend on it
    bounds = [0, *unit_counts(cuts, len(profile.units)), len(profile.units)]
    units = profile.units[bounds[index] : bounds[index + 1]]
    forward, backward = (
        rows * sum(unit.forward_ms for unit in units),
        rows * sum(unit.backward_ms for unit in units),
    )
    return {
        "forward": forward,
        "backward": backward,
        "loss": forward + backward,
        "update": sum(unit.update_ms for unit in units),
    }


def _ends_ms(name: str, times: OwnerTimes, index: int, last: int) -> dict[WorkKind, float]:
    if last < 2:
        raise ValueError(
            f"device {name!r} has times only for the two ends of a model; give it a profile for the parts between"
        )
    if index == 0:
        return {"forward": times.first_forward_ms, "backward": times.first_backward_ms}
    return {"loss": times.last_ms}
