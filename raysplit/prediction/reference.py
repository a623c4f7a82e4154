"""The reference engine of simulations: the algorithm's coroutines on plain asyncio, in virtual time."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from raysplit.algorithms.base import Algorithm
from raysplit.cluster.contract import LinkTraffic, PartySpec
from raysplit.cluster.emulation.events import EventLog
from raysplit.cluster.emulation.machines import Emulation
from raysplit.cluster.links.rules import LinkRules
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.cluster.simulated.loop import VirtualClock, run_virtual
from raysplit.prediction.dry_parties import dry_parties
from raysplit.prediction.timeline import DeviceUse
from raysplit.schedulers.cohort import choose_cohort
from raysplit.seeding import generator

Progress = Callable[[int, int | None], None]
"""A function that is told the number of events so far, and of all events where it is known."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What an engine found.

    Attributes:
        round_s: the length of every round in described seconds.
        log: the events; None if they were not kept.
        traffic: the bytes and messages on every link.
        num_events: the number of events.
        uses: the use of every device, where events were not kept.
    """

    round_s: tuple[float, ...]
    log: EventLog | None
    traffic: tuple[LinkTraffic, ...]
    num_events: int
    uses: tuple[DeviceUse, ...] = ()


def run_reference(
    algorithm: Algorithm,
    parties: Sequence[PartySpec],
    emulate: Callable[[Sequence[PartySpec]], Emulation],
    links: LinkRules,
    *,
    rounds: int,
    progress: Progress | None = None,
) -> Outcome:
    """Run the rounds of an algorithm in virtual time, with tensors that are only sizes.

    Args:
        algorithm: the algorithm, which has not run.
        parties: the parties of a run.
        emulate: function that describes the machines of the parties.
        links: codecs of the run.
        rounds: the number of rounds.
        progress: function that is told the number of events now and then.
    """
    cluster = LocalCluster(emulate, links=links, checks=False)

    def meanwhile() -> None:
        if progress is not None:
            progress(len(cluster.log), None)

    with without_garbage_collection():  # which would visit millions of live objects again and again
        round_s, traffic = run_virtual(_rounds(algorithm, cluster, dry_parties(parties), rounds), meanwhile)
    log = cluster.log
    return Outcome(round_s=tuple(round_s), log=log, traffic=tuple(traffic), num_events=len(log))


def cohort_names(algorithm: Algorithm, round: int) -> tuple[str, ...]:
    """Draw the owners of a round, as a run does."""
    rng = generator(algorithm.setting.seed, "round", round, "cohort")
    return choose_cohort(algorithm.available(round), algorithm.setting.cohort_size, rng)


async def _rounds(
    algorithm: Algorithm, cluster: LocalCluster, parties: Sequence[Any], rounds: int
) -> tuple[list[float], list[LinkTraffic]]:
    clock, lengths = VirtualClock(), []
    algorithm.attach(await cluster.deploy(parties))
    for round in range(rounds):
        context = algorithm.context(round, cohort_names(algorithm, round))
        began_s = clock.time_s()
        await algorithm.round(context)
        lengths.append(clock.time_s() - began_s)
    return lengths, await cluster.traffic()


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Suspend the garbage collection."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
