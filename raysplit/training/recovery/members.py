"""Members of a run before each round: all parties, or, in an elastic run, those whose places have room.

`raysplit.schedulers.elastic` decides; the classes here ask the cluster for its members, wait, and inform the algorithm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.route import Route
from raysplit.cluster.contract import Cluster, NoRoom, PartySpec
from raysplit.experiment.experiment import Experiment
from raysplit.experiment.rules import ElasticRules
from raysplit.registry import number_of
from raysplit.runs.folder import Row
from raysplit.schedulers.elastic import Begin, RoundCall, Wait, change_in_words, decide, members_after
from raysplit.training.recovery.migration import MovingParts

logger = logging.getLogger(__name__)

_POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Settled:
    """Changes before a round: new parties, and the route to put parts on (None: the parts are in place)."""

    newcomers: tuple[str, ...] = ()
    route: Route | None = None


class Everybody:
    """Members of a run that is not elastic."""

    async def settle(self, rows: Sequence[Row], awaited: Sequence[str] = ()) -> Settled:
        """Return at once; the members do not change."""
        return Settled()

    def among(self, owners: Sequence[str], absent: Sequence[str]) -> list[str]:
        """Return the owners that may be drawn: all."""
        return list(owners)

    def row(self) -> Row:
        """Return no columns for a round's metrics."""
        return {}


class Members:
    """Members of an elastic run."""

    def __init__(
        self,
        experiment: Experiment,
        rules: ElasticRules,
        algorithm: Algorithm,
        parties: Sequence[PartySpec],
        cluster: Cluster,
    ) -> None:
        wants_them_back = experiment.reliability.on_lost_place == "restart"
        self._rules = rules
        self._return_s = experiment.cluster.placement_timeout_s if wants_them_back else 0.0
        self._algorithm = algorithm
        self._cluster = cluster
        self._parts = MovingParts(experiment, rules, algorithm) if algorithm.on_offer else None
        self._needed = [p.name for p in parties if p.role != "owner" and p.name not in algorithm.on_offer]
        self._begin = Begin(members=())
        self._num_places = 0

    async def settle(self, rows: Sequence[Row], awaited: Sequence[str] = ()) -> Settled:
        """Wait until the next round may start, and return what has changed.

        Args:
            rows: the metrics of the rounds so far.
            awaited: the parties that were lost in the round to repeat.

        Raises:
            NoRoom: the wait took longer than the rules allow.
        """
        now_s = asyncio.get_running_loop().time
        began_s, newcomers, logged_reason = now_s(), list[str](), ""
        while True:
            present = await self._cluster.members()
            newcomers += present.came
            self._algorithm.attach(present.handles, self._cluster)
            waited_s = now_s() - began_s
            absent = tuple(name for name in awaited if name not in present.handles)
            may_come_back = bool(absent) and waited_s < self._return_s
            call = RoundCall(
                owners=tuple(name for name in self._algorithm.setting.owners if name in present.handles),
                missing=self._missing() + (() if may_come_back else self._parts_lacking(len(rows))),
                awaited=absent,
                num_places=present.num_places,
                waited_s=waited_s,
                return_s=self._return_s,
            )
            decision = decide(call, members_after(rows), self._rules)
            if not isinstance(decision, Wait):
                break
            if decision.reason != logged_reason:
                logged_reason = decision.reason
                logger.info("waiting before round %d: %s", len(rows) + 1, logged_reason)
            await asyncio.sleep(_POLL_S)
        if not isinstance(decision, Begin):
            raise NoRoom(decision.reason)
        if decision.came or decision.left:
            total = f"{number_of(len(decision.members), 'member')} on {number_of(present.num_places, 'place')}"
            logger.info("round %d has %s: %s", len(rows) + 1, total, change_in_words(decision))
        self._begin, self._num_places = decision, present.num_places
        return Settled(newcomers=tuple(newcomers), route=self._parts.moved(newcomers) if self._parts else None)

    def _missing(self) -> tuple[str, ...]:
        absent = [name for name in self._needed if name not in self._algorithm.handles]
        return (f"{', '.join(absent)} {'have' if len(absent) > 1 else 'has'} no place",) if absent else ()

    def _parts_lacking(self, num_rows: int) -> tuple[str, ...]:
        if self._parts is None:
            return ()
        return tuple(self._parts.lacking(self._algorithm.handles, self._algorithm.num_rounds - num_rows))

    def among(self, owners: Sequence[str], absent: Sequence[str]) -> list[str]:
        """Return the owners that may be drawn: members of the round that have not left during it."""
        return [name for name in owners if name in self._begin.members and name not in absent]

    def row(self) -> Row:
        """Return the columns of a round's metrics: members, who came and left, and the nodes of the parts."""
        return self._begin.row(self._num_places) | (self._parts.row() if self._parts else {})


def members_of(
    experiment: Experiment, algorithm: Algorithm, parties: Sequence[PartySpec], cluster: Cluster
) -> Everybody | Members:
    """Return the members of a run, elastic or not."""
    rules = experiment.elastic
    return Everybody() if rules is None else Members(experiment, rules, algorithm, parties, cluster)
