"""Build the planner's problem, the choice of cuts and nodes, from an experiment with a topology."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf, isfinite

from raysplit.algorithms.route import RouteOptions
from raysplit.experiment.errors import ConfigError
from raysplit.experiment.experiment import Experiment
from raysplit.experiment.topology import Topology
from raysplit.prediction.dry_setting import dry, may_send_inputs, reference_profile
from raysplit.prediction.machines import interface
from raysplit.schedulers.cuts.problem import Objective
from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB, Profile, own_units_ms
from raysplit.schedulers.cuts.solve import ComputeNodeSpec, CutProblem, FreeOwnerCuts


def cut_problem(experiment: Experiment, *, objective: Objective = "sum_of_max") -> CutProblem:
    """Build the planner's problem for the nodes and owners of a topology.

    Raises:
        ConfigError: the algorithm has no cuts to plan, or the topology, a profile or the owners' memory is missing.
    """
    options = experiment.algorithm.options
    if not isinstance(options, RouteOptions):
        raise ConfigError(
            f"algorithm.name is {experiment.method}; cuts and nodes are planned for mpsl, and for your own "
            f"algorithms whose options are RouteOptions"
        )
    topology = experiment.required_topology
    setting, batch_size = experiment.setting, experiment.batch_size
    with_links = options.plan_links == "stages"
    nodes = tuple(
        _node(f"node-{i}", name, topology, batch_size, with_links) for i, name in enumerate(topology.nodes, start=1)
    )
    if not nodes:
        raise ConfigError("topology.nodes is empty; give the device of each available compute node")
    steps = _steps(experiment, options)
    return CutProblem(
        profile=scaled(reference_profile(topology), batch_size=batch_size),
        owners=setting.cohort_size or len(setting.owners),
        nodes=nodes,
        units=options.units or _given_ends(options) or _free_ends(topology, len(setting.owners)),
        objective=objective,
        batches_per_owner=round(sum(steps) / len(steps)),
        may_send_inputs=may_send_inputs(experiment),
    )


def _steps(experiment: Experiment, options: RouteOptions) -> list[int]:
    """Return the number of mini-batches of every owner in a round, which does not depend on the cuts."""
    any_cuts = options.model_copy(update={"cuts": (1, 2), "nodes": None, "on_offer": None})
    algorithm = dry(replace(experiment, algorithm=type(experiment.algorithm)(options=any_cuts))).begin()
    return [algorithm.num_steps(owner) for owner in algorithm.setting.owners]


def _node(node: str, name: str, topology: Topology, batch_size: int, with_links: bool) -> ComputeNodeSpec:
    device = topology.devices[name]
    if device.measured is None:
        raise ConfigError(f"device {name!r} of {node} has no profile; raysplit profile measures one on that machine")
    kind = device.node_kind(name)
    profile = scaled(device.measured, batch_size=batch_size, slowdown=kind.slowdown)
    access = interface(device)
    rate = min(access.up_bytes_per_s, access.down_bytes_per_s) if with_links else inf
    return ComputeNodeSpec(name=node, kind=kind, profile=profile, link_bytes_per_s=rate if isfinite(rate) else None)


def scaled(profile: Profile, *, batch_size: int, slowdown: float = 1.0) -> Profile:
    """Scale a profile to another batch size and a slower machine; the time of updates does not depend on the batch."""
    rows = batch_size / profile.batch_size
    units = tuple(
        replace(
            unit,
            forward_ms=unit.forward_ms * rows * slowdown,
            backward_ms=unit.backward_ms * rows * slowdown,
            update_ms=unit.update_ms * slowdown,
            activation_bytes=round(unit.activation_bytes * rows),
        )
        for unit in profile.units
    )
    return replace(profile, batch_size=batch_size, units=units)


def _given_ends(options: RouteOptions) -> tuple[int, int] | None:
    """Return the units between the first and the last cut, where the cuts are listed as numbers."""
    if options.cuts == "auto":
        return None
    first, last = options.cuts[0], options.cuts[-1]
    return (first, last - 1) if isinstance(first, int) and isinstance(last, int) else None


def owner_ms(experiment: Experiment, problem: CutProblem, first: int, end: int) -> float:
    """Return the time per batch of the slowest owner's own units, those before the first and from the last cut on."""
    topology, batch_size = experiment.required_topology, experiment.batch_size
    times = []
    for name in sorted(set(topology.owner_devices(len(experiment.setting.owners)))):
        device = topology.devices[name]
        profile = problem.profile
        if device.measured is not None:
            profile = scaled(device.measured, batch_size=batch_size, slowdown=device.node_kind(name).slowdown)
        times.append(own_units_ms(profile, first, end))
    return max(times)


def _free_ends(topology: Topology, num_owners: int) -> FreeOwnerCuts:
    devices: Sequence[str] = sorted(set(topology.owner_devices(num_owners)))
    memory_gib = [topology.devices[name].memory_gib for name in devices]
    if any(memory is None for memory in memory_gib):
        raise ConfigError(
            f"cuts: auto needs the units that owners keep: set algorithm.units to the nodes' first and last unit, "
            f"or set memory_gib of {', '.join(devices)}, and owners keep the units that fit"
        )
    return FreeOwnerCuts(memory_bytes=round(min(m for m in memory_gib if m is not None) * BYTES_PER_GIB))
