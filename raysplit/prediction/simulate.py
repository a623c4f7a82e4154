"""Predict a run: the algorithm's own coroutines in virtual time, on the described machines, without any tensor.

MP-SL (Tirana, Lalis and Chatzopoulos, 2024, arXiv 2402.00208) predicts a round by closed formulas
(`raysplit.schedulers.cuts.time_model`); this is the ground truth that they approximate.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Generator, Tensor

from raysplit.actors.data_owner import LocalTraining
from raysplit.algorithms import resolve_algorithm
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.setting import OwnerData, Setting
from raysplit.cluster.contract import LinkTraffic
from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.simulated.cluster import SimulatedCluster
from raysplit.cluster.simulated.loop import VirtualClock, run_virtual
from raysplit.config.build import prepare
from raysplit.config.run import ConfigError, RunConfig
from raysplit.experiment.topology import TopologyConfig
from raysplit.prediction.dry_run import DryModelSpec, DryShard, dry_parties
from raysplit.prediction.machines import emulation
from raysplit.schedulers.cohort import choose_cohort
from raysplit.schedulers.cuts.profiles import Profile
from raysplit.seeding import generator

logger = logging.getLogger(__name__)

SIMULATED = (
    "centralised",
    "local",
    "fedavg",
    "fedprox",
    "splitnn",
    "splitfed_v1",
    "splitfed_v2",
    "minibatch_sfl",
    "mpsl",
)
"""The algorithms that can be acted out with sizes instead of tensors."""


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """A predicted run.

    Attributes:
        round_s: length of every round in described seconds.
        log: everything that happened.
        traffic: what crossed the links.
        took_s: real seconds that the simulation took.
    """

    round_s: tuple[float, ...]
    log: EventLog
    traffic: tuple[LinkTraffic, ...]
    took_s: float


def simulate(
    config: RunConfig,
    *,
    rounds: int = 1,
    shard_sizes: Sequence[int] | None = None,
    places: Mapping[str, str] | None = None,
) -> Simulation:
    """Simulate the first rounds of a run.

    Args:
        shard_sizes: samples of each owner; None takes ``topology.samples_per_owner`` or else the data's partition.
        places: the place of each party, for predicting a run in which the parties of a place take turns.

    Raises ``ConfigError`` for a configuration without a topology, ``ValueError`` for one that lacks times.
    """
    topology = required_topology(config)
    algorithm = dry_algorithm(config, shard_sizes)
    links = config.links.rules()
    if links.codecs and not all(unit.activation_shapes for unit in reference_profile(topology).units):
        logger.warning("the profile does not tell the shapes of activations; each is taken for one tensor when coded")
    parties = dry_parties(algorithm.parties())
    cluster = SimulatedCluster(
        partial(
            emulation,
            topology=topology,
            clock=VirtualClock(),
            batch_size=algorithm.setting.training.batch_size,
            processor_of=places,
        ),
        links=links,
    )
    began = time.perf_counter()
    with _without_garbage_collection():  # it would look through millions of live objects again and again
        round_s, traffic = run_virtual(_rounds(config, algorithm, cluster, parties, rounds))
    took_s = time.perf_counter() - began
    return Simulation(round_s=tuple(round_s), log=cluster.log, traffic=tuple(traffic), took_s=took_s)


async def _rounds(
    config: RunConfig, algorithm: Algorithm, cluster: SimulatedCluster, parties: Sequence[Any], rounds: int
) -> tuple[list[float], list[LinkTraffic]]:
    clock, lengths = VirtualClock(), []
    algorithm.attach(await cluster.deploy(parties))
    for round in range(rounds):
        rng = generator(config.seed, "round", round, "cohort")
        cohort = choose_cohort(algorithm.available(round), config.training.cohort_size, rng)
        began_s = clock.time_s()
        await algorithm.round(algorithm.context(round, cohort))
        lengths.append(clock.time_s() - began_s)
    return lengths, await cluster.traffic()


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def dry_algorithm(config: RunConfig, shard_sizes: Sequence[int] | None = None) -> Algorithm:
    """The configured algorithm over tensors that are sizes. Raises ``ConfigError`` for one that needs more."""
    if config.algorithm.name not in SIMULATED:
        raise ConfigError(
            f"algorithm.name is {config.algorithm.name}, whose course depends on values or on several tasks; what can "
            f"be simulated is {', '.join(SIMULATED)}"
        )
    topology = required_topology(config)
    sizes = shard_sizes or _shard_sizes(config, topology)
    if config.algorithm.name == "centralised":  # one owner has them all
        sizes = [sum(sizes)]
    setting = dry_setting(config, topology, sizes)
    return resolve_algorithm(config.algorithm.name)(setting, config.algorithm.resolved_options())


def required_topology(config: RunConfig) -> TopologyConfig:
    """The topology of a configuration that must have one."""
    if config.topology is None:
        raise ConfigError(
            "this needs a topology: the devices, with their profiles and links, of owners and nodes; see "
            "examples/mpsl_simulate.yaml"
        )
    return config.topology


def dry_setting(config: RunConfig, topology: TopologyConfig, shard_sizes: Sequence[int]) -> Setting:
    """The setting of a run in which tensors are sizes."""
    profile = reference_profile(topology)
    spec: Any = DryModelSpec(units=profile.units, batch_size=profile.batch_size)
    training = config.training
    return Setting(
        spec=spec,
        owners={f"owner-{i}": _owner(size) for i, size in enumerate(shard_sizes)},
        training=LocalTraining(batch_size=training.batch_size, drop_last=training.drop_last, loss=training.loss),
        local_epochs=training.local_epochs,
        max_steps=training.max_steps,
        seed=config.seed,
    )


def _owner(num_samples: int) -> OwnerData:
    shard: Any = DryShard(num_samples=num_samples)
    return OwnerData(shard=shard, transform=_untouched, eval_transform=_untouched)


def _untouched(x: Tensor, gen: Generator) -> Tensor:
    return x


def reference_profile(topology: TopologyConfig) -> Profile:
    """The profile whose sizes hold for the model: that of the first node, else of any device."""
    names = [*topology.nodes, *topology.devices]
    for name in names:
        profile = topology.devices[name].measured
        if profile is not None:
            return profile
    raise ConfigError("no device of the topology has a profile; raysplit profile measures one on this machine")


def _shard_sizes(config: RunConfig, topology: TopologyConfig) -> list[int]:
    if topology.samples_per_owner is not None:
        return [topology.samples_per_owner] * config.partition.num_owners
    return [len(part) for part in prepare(config).parts]
