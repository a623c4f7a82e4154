"""``cuts: auto``: from a configuration with a topology to the planner's problem, and back to cuts and nodes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from math import inf, isfinite
from typing import Any

from raysplit.algorithms.mpsl.route import MPSLOptions
from raysplit.config.run import AlgorithmConfig, ConfigError, RunConfig
from raysplit.experiment.topology import TopologyConfig
from raysplit.prediction.machines import interface
from raysplit.prediction.simulate import dry_algorithm, reference_profile, required_topology
from raysplit.schedulers.cuts.problem import Objective
from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB, Profile
from raysplit.schedulers.cuts.solve import ComputeNodeSpec, CutProblem, FreeOwnerCuts, solve_ilp

logger = logging.getLogger(__name__)


def with_planned_cuts(config: RunConfig) -> RunConfig:
    """The configuration with the planner's cuts and nodes where it says ``cuts: auto``; any other as it is."""
    options = config.algorithm.resolved_options()
    if not isinstance(options, MPSLOptions) or options.cuts != "auto":
        return config
    problem = cut_problem(config)
    plan = solve_ilp(problem)
    logger.info("planned cuts %s on %s", list(plan.cuts), ", ".join(plan.nodes))
    chosen: dict[str, Any] = {"cuts": list(plan.cuts), "nodes": list(plan.nodes)}
    if config.cluster.elastic is not None:
        chosen["on_offer"] = [node.name for node in problem.nodes]
    algorithm = AlgorithmConfig(**config.algorithm.model_dump() | chosen)
    return config.model_copy(update={"algorithm": algorithm})


def cut_problem(config: RunConfig, *, objective: Objective = "sum_of_max") -> CutProblem:
    """The planner's problem for the nodes and owners of a topology. Raises ``ConfigError`` for what is missing."""
    options = config.algorithm.resolved_options()
    if not isinstance(options, MPSLOptions):
        raise ConfigError(f"algorithm.name is {config.algorithm.name}; cuts and nodes are planned for mpsl")
    topology = required_topology(config)
    batch_size = config.training.batch_size
    with_links = options.plan_links == "stages"
    nodes = tuple(
        _node(f"node-{i}", name, topology, batch_size, with_links) for i, name in enumerate(topology.nodes, start=1)
    )
    if not nodes:
        raise ConfigError("topology.nodes is empty; name the device of each compute node on offer")
    algorithm = dry_algorithm(config.model_copy(update={"algorithm": _any_cuts(config.algorithm)}))
    steps = [algorithm.num_steps(owner) for owner in algorithm.setting.owners]
    return CutProblem(
        profile=scaled(reference_profile(topology), batch_size=batch_size),
        owners=config.training.cohort_size or config.partition.num_owners,
        nodes=nodes,
        units=options.units or _free_ends(topology, config.partition.num_owners),
        objective=objective,
        batches_per_owner=round(sum(steps) / len(steps)),
    )


def _any_cuts(algorithm: AlgorithmConfig) -> AlgorithmConfig:
    return AlgorithmConfig(**algorithm.model_dump() | {"cuts": [1, 2], "nodes": None, "on_offer": None})


def _node(node: str, name: str, topology: TopologyConfig, batch_size: int, with_links: bool) -> ComputeNodeSpec:
    device = topology.devices[name]
    if device.measured is None:
        raise ConfigError(f"device {name!r} of {node} has no profile; raysplit profile measures one on that machine")
    kind = device.node_kind(name)
    profile = scaled(device.measured, batch_size=batch_size, slowdown=kind.slowdown)
    access = interface(device)
    rate = min(access.up_bytes_per_s, access.down_bytes_per_s) if with_links else inf
    return ComputeNodeSpec(name=node, kind=kind, profile=profile, link_bytes_per_s=rate if isfinite(rate) else None)


def scaled(profile: Profile, *, batch_size: int, slowdown: float = 1.0) -> Profile:
    """A profile for another batch size, in proportion, on a machine slower by that factor. Updates keep their time."""
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


def _free_ends(topology: TopologyConfig, num_owners: int) -> FreeOwnerCuts:
    devices: Sequence[str] = sorted(set(topology.owner_devices(num_owners)))
    memory_gib = [topology.devices[name].memory_gib for name in devices]
    if any(memory is None for memory in memory_gib):
        raise ConfigError(
            f"cuts: auto needs to know what owners keep: give algorithm.units, the first and last unit that the nodes "
            f"run, or memory_gib of {', '.join(devices)}, and owners keep what fits"
        )
    return FreeOwnerCuts(memory_bytes=round(min(m for m in memory_gib if m is not None) * BYTES_PER_GIB))
