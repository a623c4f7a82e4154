"""Owners that join and leave while others train, and how a newcomer's bottom begins.

For multi-task split learning (Zheng, Eryilmaz, 2024, arXiv 2406.00150): nobody else's bottom depends on who is there,
so an owner may come at any round. With the shared top frozen the tasks are separate problems, and a newcomer trains
nothing but its own bottom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from raysplit.actors.aggregation import weighted_mean
from raysplit.actors.data_owner import DataOwner
from raysplit.actors.records import RoundContext
from raysplit.actors.verbs import OwnerHandle
from raysplit.algorithms.setting import Options, Team

FirstBottom = Literal["random", "mean"]
"""A newcomer's bottom begins as it was drawn, or as the mean of the bottoms of those who are there."""


class Membership(Options):
    """Takes part from round ``joins`` on and before round ``leaves`` (counted from 0), starting from this bottom."""

    joins: int = Field(default=0, ge=0)
    leaves: int | None = Field(default=None, ge=1)
    bottom: FirstBottom = "random"

    def covers(self, round: int) -> bool:
        return self.joins <= round and (self.leaves is None or round < self.leaves)


def members(owners: Sequence[str], memberships: Mapping[str, Membership], round: int) -> list[str]:
    """Who is there in a round, in owner order. Raises ``ValueError`` when nobody is."""
    present = [name for name in owners if memberships.get(name, Membership()).covers(round)]
    if not present:
        raise ValueError(f"no owner is a member in round {round}; change joins and leaves so that somebody trains")
    return present


def taking_mean_bottom(memberships: Mapping[str, Membership], round: int) -> list[str]:
    """Who comes in this round and starts from the mean of the others; in round 0 there are no others."""
    return [name for name, m in memberships.items() if m.bottom == "mean" and m.joins == round > 0]


async def take_mean_bottom(owner: DataOwner, team: Team, context: RoundContext) -> None:
    """Begin from the mean of the peers' bottoms: the one time that weights are read, so it needs their consent."""
    peers: Mapping[str, OwnerHandle] = team.peers
    states = [await peer.weights() for peer in peers.values()]
    owner.load_weights(weighted_mean(states, [1 / len(states)] * len(states)))
