"""Replay rounds of a finished run in one process, and keep what one observer saw.

A run is the same in bits wherever it runs, so that the messages of a round can be computed again instead of storing
them all. The state of the party that receives smashed data can be kept with them: an attacker at a server has its own
weights of that moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from raysplit.algorithms.base import Algorithm
from raysplit.cluster.links.kinds import Kind
from raysplit.cluster.links.tap import Message, Recorder
from raysplit.cluster.local.cluster import LocalCluster
from raysplit.experiment.experiment import Experiment
from raysplit.privacy.seen.defended import without_ledger
from raysplit.training.preflight import deployed_parties
from raysplit.training.recovery.recovery import deployed

Wanted = Callable[[str, str, Kind, Any], bool]


def refuse_replay(experiment: Experiment) -> None:
    """Raise ``ValueError`` for a run whose rounds depend on more than its settings."""
    rules = experiment.reliability
    depends_on = {
        "cluster.elastic": experiment.elastic is not None,
        "reliability.on_lost_place: drop": rules.drops_owners,
        "a cohort that ends a round without some owners": experiment.setting.cohort.is_open,
    }
    if found := [name for name, is_so in depends_on.items() if is_so]:
        raise ValueError(
            f"this run has {found[0]}, so that its rounds depend on who was there, and cannot be computed again; "
            f"attacks at the last weights need no replay: --rounds last"
        )


def replayed(
    experiment: Experiment,
    rounds: Sequence[int],
    wanted: Wanted,
    *,
    beside: Callable[[Any], Any] | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> list[Message]:
    """Return the wanted messages of rounds, counted from 0, in the order of their arrival.

    Args:
        experiment: the run, as it was configured.
        rounds: the rounds whose messages are kept; all rounds up to the last of them are computed.
        wanted: says of source, destination, kind and step whether to keep a message.
        beside: function whose value for the receiving party, at the moment of arrival, is kept in `Message.beside`.
        tell: is told of the rounds so far and of all of them.

    Raises:
        ValueError: as `refuse_replay`.
    """
    refuse_replay(experiment)
    return asyncio.run(_replayed(without_ledger(experiment), sorted(set(rounds)), wanted, beside, tell))


async def _replayed(
    experiment: Experiment,
    rounds: Sequence[int],
    wanted: Wanted,
    beside: Callable[[Any], Any] | None,
    tell: Callable[[int, int], None] | None,
) -> list[Message]:
    chosen = set(rounds)

    def in_rounds(source: str, destination: str, kind: Kind, step: Any) -> bool:
        return getattr(step, "round", None) in chosen and wanted(source, destination, kind, step)

    algorithm = experiment.begin()
    recorder = Recorder(in_rounds, beside=(lambda name: beside(cluster.party(name))) if beside else None)
    cluster = LocalCluster(links=replace(experiment.link_rules(), taps=(recorder,)))
    parties = deployed_parties(algorithm)
    algorithm.attach(await deployed(parties, cluster, experiment.reliability), cluster)
    for round in range(rounds[-1] + 1 if rounds else 0):
        await _round(algorithm, round)
        if tell is not None:
            tell(round + 1, rounds[-1] + 1)
    await cluster.close()
    return recorder.messages


async def _round(algorithm: Algorithm, round: int) -> None:
    """Run one round as the training loop does."""
    cohort = algorithm.drawn(round, algorithm.available(round))
    await algorithm.round(
        await algorithm.weighted(algorithm.context(round, cohort, lr_scale=algorithm.lr_scale(round)))
    )
