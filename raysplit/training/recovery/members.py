"""Who is there before a round: everybody, or, in an elastic run, those for whose places there is room.

`raysplit.schedulers.elastic` decides; these ask the cluster who is there, wait, and tell the algorithm.
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
from raysplit.runs.folder import Row
from raysplit.schedulers.elastic import Begin, RoundCall, Wait, change_in_words, decide, members_after
from raysplit.training.recovery.migration import MovingParts

logger = logging.getLogger(__name__)

_POLL_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What has changed: parties that were made since, and the route that parts are to be put on (None: all are)."""

    newcomers: tuple[str, ...] = ()
    route: Route | None = None


class Everybody:
    """The members of a run that has all its places from the beginning to the end."""

    async def settle(self, rows: Sequence[Row], awaited: Sequence[str] = ()) -> Settled:
        """Nobody has come or left."""
        return Settled()

    def among(self, owners: Sequence[str], absent: Sequence[str]) -> list[str]:
        """Owners that may be drawn."""
        return list(owners)

    def row(self) -> Row:
        """Columns of a round's metrics."""
        return {}


class Members:
    """The members of an elastic run."""

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
        """Wait until a round may begin after these; who and what is new.

        Args:
            awaited: who was lost in the round that is to be repeated.

        Raises `NoRoom` when it has waited for long enough.
        """
        now_s = asyncio.get_running_loop().time
        began_s, newcomers, told = now_s(), list[str](), ""
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
            if decision.reason != told:
                told = decision.reason
                logger.info("waiting before round %d: %s", len(rows) + 1, told)
            await asyncio.sleep(_POLL_S)
        if not isinstance(decision, Begin):
            raise NoRoom(decision.reason)
        if decision.came or decision.left:
            there = f"{len(decision.members)} members on {present.num_places} places"
            logger.info("round %d has %s: %s", len(rows) + 1, there, change_in_words(decision))
        self._begin, self._num_places = decision, present.num_places
        return Settled(newcomers=tuple(newcomers), route=self._parts.moved(newcomers) if self._parts else None)

    def _missing(self) -> tuple[str, ...]:
        """Who has no place though no round can do without."""
        absent = [name for name in self._needed if name not in self._algorithm.handles]
        return (f"{', '.join(absent)} {'have' if len(absent) > 1 else 'has'} no place",) if absent else ()

    def _parts_lacking(self, num_rows: int) -> tuple[str, ...]:
        """Why the parts that may move have nowhere to go."""
        if self._parts is None:
            return ()
        return tuple(self._parts.lacking(self._algorithm.handles, self._algorithm.num_rounds - num_rows))

    def among(self, owners: Sequence[str], absent: Sequence[str]) -> list[str]:
        """Of these, the members of the round without those who left in it, who may be drawn."""
        return [name for name in owners if name in self._begin.members and name not in absent]

    def row(self) -> Row:
        """Columns of a round's metrics: the members, by who came and left, and where the parts are."""
        return self._begin.row(self._num_places) | (self._parts.row() if self._parts else {})


def members_of(
    experiment: Experiment, algorithm: Algorithm, parties: Sequence[PartySpec], cluster: Cluster
) -> Everybody | Members:
    """Who has to be there."""
    rules = experiment.elastic
    return Everybody() if rules is None else Members(experiment, rules, algorithm, parties, cluster)
