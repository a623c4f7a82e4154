"""Who is there before a round: everybody, or, in an elastic run, those for whose places there is room.

`raysplit.schedulers.elastic` decides, these call the roll, wait and tell.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raysplit.algorithms.base import Algorithm
from raysplit.algorithms.mpsl.mpsl import MPSL
from raysplit.algorithms.mpsl.route import Route
from raysplit.cluster.contract import Cluster, NoRoom, PartySpec
from raysplit.config.run import RunConfig
from raysplit.runs.folder import Row
from raysplit.schedulers.elastic import Begin, ElasticRules, RoundCall, Wait, change_in_words, decide, members_after
from raysplit.training.recovery.migration import MovingParts

if TYPE_CHECKING:
    from raysplit.experiment.rules import ElasticConfig

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
        config: RunConfig,
        section: ElasticConfig,
        algorithm: Algorithm,
        parties: Sequence[PartySpec],
        cluster: Cluster,
    ) -> None:
        wants_them_back = config.reliability.on_lost_place == "restart"
        self._rules = ElasticRules(
            min_owners=section.min_owners,
            min_places=section.min_places,
            wait_s=section.wait_s,
            return_s=config.cluster.placement_timeout_s if wants_them_back else 0.0,
        )
        self._algorithm = algorithm
        self._cluster = cluster
        moves = isinstance(algorithm, MPSL) and algorithm.on_offer
        self._parts = MovingParts(config, section, algorithm) if moves and isinstance(algorithm, MPSL) else None
        movable = set(algorithm.on_offer) if isinstance(algorithm, MPSL) else set()
        self._needed = [party.name for party in parties if party.role != "owner" and party.name not in movable]
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
            roll = await self._cluster.members()
            newcomers += roll.came
            self._algorithm.attach(roll.handles, self._cluster)
            waited_s = now_s() - began_s
            absent = tuple(name for name in awaited if name not in roll.handles)
            may_come_back = bool(absent) and waited_s < self._rules.return_s
            call = RoundCall(
                owners=tuple(name for name in self._algorithm.setting.owners if name in roll.handles),
                missing=self._missing() + (() if may_come_back else self._parts_lacking(len(rows))),
                awaited=absent,
                num_places=roll.num_places,
                waited_s=waited_s,
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
            there = f"{len(decision.members)} members on {roll.num_places} places"
            logger.info("round %d has %s: %s", len(rows) + 1, there, change_in_words(decision))
        self._begin, self._num_places = decision, roll.num_places
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
    config: RunConfig, algorithm: Algorithm, parties: Sequence[PartySpec], cluster: Cluster
) -> Everybody | Members:
    """Who has to be there."""
    section = config.cluster.elastic
    return Everybody() if section is None else Members(config, section, algorithm, parties, cluster)
