"""Simulation of a run: the algorithm's coroutines in virtual time on the described machines, without tensors.

MP-SL (Tirana, Lalis and Chatzopoulos, 2024, arXiv 2402.00208) predicts a round by closed formulas
(`raysplit.schedulers.cuts.time_model`), which approximate what is simulated here.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from raysplit.algorithms import ALGORITHMS
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.sent_inputs import refuse_sent_inputs
from raysplit.cluster.contract import LinkTraffic
from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.links.rules import LinkRules
from raysplit.cluster.simulated.cluster import SimulatedCluster
from raysplit.cluster.simulated.loop import VirtualClock, run_virtual
from raysplit.experiment.codec_costs import CodecCosts, with_expected_sizes
from raysplit.experiment.errors import CannotBeSimulated, ConfigError
from raysplit.experiment.experiment import Experiment
from raysplit.prediction.closed_form import ClosedForm
from raysplit.prediction.dry_parties import dry_parties
from raysplit.prediction.dry_setting import dry, reference_profile
from raysplit.prediction.machines import emulation
from raysplit.prediction.timeline import Timeline, timeline_of
from raysplit.schedulers.cohort import choose_cohort
from raysplit.schedulers.cuts.profiles import UnitProfile
from raysplit.seeding import generator

logger = logging.getLogger(__name__)

MOST_STEPS = 10_000_000
"""Number of mini-batches of a simulation, each of which takes some hundred microseconds."""


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Predicted run, which `raysplit.simulate` returns.

    Attributes:
        round_s: the length of every round in described seconds.
        log: the events of the run.
        traffic: the bytes and messages on every link.
        took_s: the real seconds that the simulation took.
        closed_form: the times of a round by the closed formulas; None where they do not apply.
    """

    round_s: tuple[float, ...]
    log: EventLog
    traffic: tuple[LinkTraffic, ...]
    took_s: float
    closed_form: ClosedForm | None = None

    def beside(self, formulas: ClosedForm | None) -> Simulation:
        """Return the simulation together with the closed formulas."""
        return replace(self, closed_form=formulas)

    @cached_property
    def timeline(self) -> Timeline:
        """Timeline of the run: when each device worked, how busy it was, and which one is the bottleneck."""
        return timeline_of(self.log)


def simulate(
    experiment: Experiment,
    *,
    rounds: int = 1,
    shard_sizes: Sequence[int] | None = None,
    places: Mapping[str, str] | None = None,
    links: LinkRules | None = None,
    costs: CodecCosts | None = None,
) -> Simulation:
    """Simulate the first rounds of a run.

    Args:
        experiment: the experiment, with a topology.
        rounds: the number of rounds to simulate.
        shard_sizes: the number of samples of each owner; None takes those of the experiment.
        places: the place of each party, to predict a run in which the parties of a place take turns.
        links: codecs to predict instead of those of the experiment, with their expected sizes.
        costs: measured costs of codecs; None takes those of the topology.

    Raises:
        ConfigError: the experiment has no topology.
        CannotBeSimulated: the algorithm cannot run on sizes alone.
        ValueError: the topology has no times for a device.
    """
    algorithm = dry(experiment, shard_sizes).begin()
    _refuse_endless(algorithm, rounds)
    costs = costs or experiment.required_topology.codec_costs
    if links is None:
        experiment.require_codecs()
        links = experiment.link_rules()
        links = with_expected_sizes(links, costs) if costs is not None else links
    units = reference_profile(experiment.required_topology).units
    _warn_of_estimates(links, units, has_costs=costs is not None)
    parties = algorithm.parties()
    refuse_sent_inputs(parties)
    parties = dry_parties(parties)
    cluster = SimulatedCluster(
        partial(
            emulation,
            topology=experiment.required_topology,
            clock=VirtualClock(),
            batch_size=algorithm.setting.training.batch_size,
            processor_of=places,
            rules=links,
            codec_costs=costs,
        ),
        links=links,
    )
    began = time.perf_counter()
    with _without_garbage_collection():  # which would visit millions of live objects again and again
        try:
            round_s, traffic = run_virtual(_rounds(algorithm, cluster, parties, rounds))
        except (TypeError, AttributeError) as error:
            if type(algorithm) in ALGORITHMS.values():
                raise
            raise CannotBeSimulated(
                f"{type(algorithm).__qualname__} fails on sizes instead of tensors: {error}; if its "
                f"rounds compute with the values of weights or smashed data, set can_be_simulated = False"
            ) from error
    took_s = time.perf_counter() - began
    return Simulation(round_s=tuple(round_s), log=cluster.log, traffic=tuple(traffic), took_s=took_s)


def _warn_of_estimates(links: LinkRules, units: Sequence[UnitProfile], *, has_costs: bool) -> None:
    kinds = {kind for kind, _ in links.all_codecs}
    if kinds & {"smashed", "gradients"} and not all(unit.activation_shapes for unit in units):
        logger.warning("the profile has no shapes of activations; for codecs, each activation counts as one tensor")
    if "weights" in kinds and not all(unit.parameter_shapes or not unit.parameter_bytes for unit in units):
        logger.warning("the profile has no shapes of weights; for codecs, the weights of a unit count as one tensor")
    varying = sorted({repr(codec) for _, codec in links.all_codecs if codec.size_depends_on_values})
    if varying and not has_costs:
        logger.warning(
            "the bytes of %s depend on values; the largest size counts, set topology.codecs for the measured one",
            ", ".join(varying),
        )


async def _rounds(
    algorithm: Algorithm, cluster: SimulatedCluster, parties: Sequence[Any], rounds: int
) -> tuple[list[float], list[LinkTraffic]]:
    clock, lengths, setting = VirtualClock(), [], algorithm.setting
    algorithm.attach(await cluster.deploy(parties))
    for round in range(rounds):
        rng = generator(setting.seed, "round", round, "cohort")
        cohort = choose_cohort(algorithm.available(round), setting.cohort_size, rng)
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


def _refuse_endless(algorithm: Algorithm, rounds: int) -> None:
    """Raise ``ConfigError`` for more steps than a simulation can go through."""
    owners = algorithm.setting.owners
    steps = sum(algorithm.num_steps(owner) for owner in owners) * rounds
    if steps > MOST_STEPS:
        raise ConfigError(
            f"{rounds:,} rounds of {len(owners):,} owners have {steps:,} steps, and a simulation goes through at most "
            f"{MOST_STEPS:,}; simulate fewer rounds, or set training.max_steps"
        )
