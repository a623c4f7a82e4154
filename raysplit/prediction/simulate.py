"""Simulation of a run: the algorithm's coroutines in virtual time on the described machines, without tensors.

MP-SL (Tirana, Lalis and Chatzopoulos, 2024, arXiv 2402.00208) predicts a round by closed formulas
(`raysplit.schedulers.cuts.time_model`), which approximate what is simulated here.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal, get_args

from raysplit.algorithms import ALGORITHMS
from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.sent_inputs import refuse_sent_inputs
from raysplit.cluster.contract import LinkTraffic, PartySpec
from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.emulation.machines import Emulation
from raysplit.cluster.links.rules import LinkRules
from raysplit.cluster.simulated.loop import VirtualClock
from raysplit.experiment.codec_costs import CodecCosts, with_expected_sizes
from raysplit.experiment.errors import CannotBeSimulated, ConfigError
from raysplit.experiment.experiment import Experiment
from raysplit.prediction.closed_form import ClosedForm
from raysplit.prediction.compiled.record import Cohort, cohorts_of
from raysplit.prediction.compiled.unknown import CannotBeRecorded
from raysplit.prediction.dry_setting import dry, reference_profile
from raysplit.prediction.machines import emulation, party_devices
from raysplit.prediction.reference import Outcome, Progress, run_reference
from raysplit.prediction.timeline import DeviceUse, Timeline, timeline_of
from raysplit.registry import one_of
from raysplit.schedulers.cuts.profiles import UnitProfile

logger = logging.getLogger(__name__)

Engine = Literal["auto", "compiled", "reference"]
ENGINES: tuple[Engine, ...] = get_args(Engine)
"""``reference`` runs the coroutines as they are; ``compiled`` records them and runs the recording; ``auto`` chooses."""

MOST_STEPS: Mapping[str, int] = {"reference": 10_000_000, "compiled": 200_000_000}
"""Number of mini-batches of a simulation, each of which takes some hundred microseconds, or some five if compiled."""
MOST_RECORDED = 50_000
"""Number of mini-batches that are recorded, which take some 45 kilobytes each with four nodes."""
MOST_EVENTS = 30_000_000
"""Number of events that are kept, of 48 bytes each."""
_FEW_CALLS = 60_000  # of less the reference is done before numba has been loaded


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """Predicted run, which `raysplit.simulate` returns.

    Attributes:
        round_s: the length of every round in described seconds.
        log: the events of the run; empty where there are too many to keep them (`MOST_EVENTS`).
        traffic: the bytes and messages on every link.
        took_s: the real seconds that the simulation took.
        closed_form: the times of a round by the closed formulas; None where they do not apply.
        engine: the engine that ran.
        reason: why it was the reference, where the compiled engine would have been faster.
        num_events: the number of events.
    """

    round_s: tuple[float, ...]
    log: EventLog
    traffic: tuple[LinkTraffic, ...]
    took_s: float
    closed_form: ClosedForm | None = None
    engine: str = "reference"
    reason: str | None = None
    num_events: int = 0
    _uses: tuple[DeviceUse, ...] = ()

    def beside(self, formulas: ClosedForm | None) -> Simulation:
        """Return the simulation together with the closed formulas."""
        return replace(self, closed_form=formulas)

    @cached_property
    def timeline(self) -> Timeline:
        """Timeline of the run: when each device worked, how busy it was, and which one is the bottleneck.

        Raises ``ConfigError`` where the events were not kept; `uses` and `bottleneck` are known all the same.
        """
        if len(self.log) < self.num_events:
            raise ConfigError(
                f"the simulation has {self.num_events:,} events, and only up to {MOST_EVENTS:,} are kept for a "
                f"timeline; simulate fewer owners, rounds or steps to get one"
            )
        return timeline_of(self.log)

    def uses(self) -> list[DeviceUse]:
        """Return the use of every device: shared places and nodes before owners."""
        return list(self._found_uses)

    @cached_property
    def _found_uses(self) -> tuple[DeviceUse, ...]:
        return self._uses or tuple(self.timeline.uses())

    def bottleneck(self) -> DeviceUse | None:
        """Return the device with the longest time at work; None without work."""
        return max(self.uses(), key=lambda use: use.busy_s, default=None)


def simulate(
    experiment: Experiment,
    *,
    rounds: int = 1,
    shard_sizes: Sequence[int] | None = None,
    places: Mapping[str, str] | None = None,
    links: LinkRules | None = None,
    costs: CodecCosts | None = None,
    engine: Engine = "auto",
    progress: Progress | None = None,
) -> Simulation:
    """Simulate the first rounds of a run.

    Args:
        experiment: the experiment, with a topology.
        rounds: the number of rounds to simulate.
        shard_sizes: the number of samples of each owner; None takes those of the experiment.
        places: the place of each party, to predict a run in which the parties of a place take turns.
        links: codecs to predict instead of those of the experiment, with their expected sizes.
        costs: measured costs of codecs; None takes those of the topology.
        engine: the engine; ``auto`` takes the compiled one for long simulations, where it can run them.
        progress: function that is told the number of events now and then.

    Raises:
        ConfigError: the experiment has no topology, or the compiled engine cannot run it.
        CannotBeSimulated: the algorithm cannot run on sizes alone.
        ValueError: the topology has no times for a device.
    """
    one_of("engine", engine, ENGINES)
    algorithm = dry(experiment, shard_sizes).begin()
    costs = costs or experiment.required_topology.codec_costs
    if links is None:
        experiment.require_codecs()
        links = experiment.link_rules()
        links = with_expected_sizes(links, costs) if costs is not None else links
    units = reference_profile(experiment.required_topology).units
    num_steps = sum(algorithm.num_steps(owner) for owner in algorithm.setting.owners) * rounds
    _refuse_endless(algorithm, rounds, num_steps, "reference" if engine == "reference" else "compiled")
    _warn_of_estimates(links, units, has_costs=costs is not None)
    parties = [party for party in algorithm.parties() if party.role != "evaluator"]
    refuse_sent_inputs(parties)
    described = partial(
        emulation,
        topology=experiment.required_topology,
        batch_size=algorithm.setting.training.batch_size,
        processor_of=places,
        rules=links,
        codec_costs=costs,
    )
    began = time.perf_counter()
    outcome, reason = None, None
    with _refusing_values(algorithm):
        if engine == "compiled" or (engine == "auto" and num_steps * len(set(map(_role, parties))) > _FEW_CALLS):
            try:
                cohorts = _recordable(algorithm, parties, described, rounds, places or {})
                num_recorded = sum(cohort.num_recorded for cohort in cohorts)
                if engine == "compiled" or 2 * num_recorded <= num_steps:  # else recording takes as long as running
                    _refuse_to_record(num_recorded)
                    outcome = _compiled(algorithm, parties, cohorts, described, links, progress)
            except CannotBeRecorded as error:
                reason = str(error)
                if engine == "compiled":
                    raise ConfigError(
                        f"the compiled engine cannot run this simulation: {reason}; use the engine auto or reference"
                    ) from None
                algorithm = dry(experiment, shard_sizes).begin()
        if outcome is None:
            _refuse_endless(algorithm, rounds, num_steps, "reference", reason)
            emulate = partial(described, clock=VirtualClock())
            outcome = run_reference(algorithm, parties, emulate, links, rounds=rounds, progress=progress)
            ran = "reference"
        else:
            ran = "compiled"
    return Simulation(
        round_s=outcome.round_s,
        log=outcome.log if outcome.log is not None else EventLog(),
        traffic=outcome.traffic,
        took_s=time.perf_counter() - began,
        engine=ran,
        reason=reason,
        num_events=outcome.num_events,
        _uses=outcome.uses,
    )


def _role(party: PartySpec) -> str:
    """Return one name for all owners, and that of any other party."""
    return "owner" if party.role == "owner" else party.name


def _recordable(
    algorithm: Algorithm,
    parties: Sequence[PartySpec],
    described: Callable[..., Emulation],
    rounds: int,
    places: Mapping[str, str],
) -> list[Cohort]:
    """Return the owners of every round with their kinds. Raises `CannotBeRecorded`."""
    if importlib.util.find_spec("numba") is None:
        raise CannotBeRecorded("numba is not installed (pip install 'raysplit[compiled]')")
    topology = described.keywords["topology"]  # type: ignore[attr-defined]
    return cohorts_of(algorithm, parties, party_devices(topology, parties), places, rounds)


def _refuse_to_record(num_recorded: int) -> None:
    if num_recorded > MOST_RECORDED:
        raise CannotBeRecorded(
            f"{num_recorded:,} mini-batches would have to be recorded, two owners of each kind in every round, and "
            f"at most {MOST_RECORDED:,} can be"
        )


def _compiled(
    algorithm: Algorithm,
    parties: Sequence[PartySpec],
    cohorts: Sequence[Cohort],
    described: Callable[..., Emulation],
    links: LinkRules,
    progress: Progress | None,
) -> Outcome:
    from raysplit.prediction.compiled.recorded_parties import NoClock
    from raysplit.prediction.compiled.replay import replay

    topology = described.keywords["topology"]  # type: ignore[attr-defined]
    emulate = partial(described, clock=NoClock(), device_of=party_devices(topology, parties))
    return replay(algorithm, parties, cohorts, emulate, links, most_events=MOST_EVENTS, progress=progress)


@contextmanager
def _refusing_values(algorithm: Algorithm) -> Iterator[None]:
    """Say of an algorithm of the user's own that it computes with values, where it fails on sizes."""
    try:
        yield
    except (TypeError, AttributeError) as error:
        if type(algorithm) in ALGORITHMS.values():
            raise
        raise CannotBeSimulated(
            f"{type(algorithm).__qualname__} fails on sizes instead of tensors: {error}; if its "
            f"rounds compute with the values of weights or smashed data, set can_be_simulated = False"
        ) from error


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


def _refuse_endless(algorithm: Algorithm, rounds: int, num_steps: int, engine: str, reason: str | None = None) -> None:
    """Raise ``ConfigError`` for more steps than an engine can go through."""
    most = MOST_STEPS[engine]
    if num_steps > most:
        because = f" on the reference engine, which runs because {reason}" if reason else ""
        raise ConfigError(
            f"{rounds:,} rounds of {len(algorithm.setting.owners):,} owners have {num_steps:,} steps, and a simulation "
            f"goes through at most {most:,}{because}; simulate fewer rounds, or set training.max_steps"
        )
