"""Owners that join and leave during a run, and the initial bottom of an owner that joins.

In multi-task split learning (Zheng, Eryilmaz, 2024, arXiv 2406.00150) no owner's bottom depends on which others are
present, so an owner may join in any round. With a frozen top the tasks are separate problems, and an owner that joins
trains only its own bottom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from raysplit.actors.aggregation import weighted_mean
from raysplit.actors.data_owner import DataOwner
from raysplit.actors.records import RoundContext
from raysplit.actors.verbs import OwnerHandle
from raysplit.algorithms.mtsl.learning_rates import AutoRates
from raysplit.algorithms.setting import Options, Team
from raysplit.algorithms.unused import RunOutline

FirstBottom = Literal["random", "mean"]
"""The initial bottom of an owner that joins: its random initial weights, or the mean of the present owners' bottoms."""


class Membership(Options):
    """The rounds in which an owner takes part, and its initial bottom."""

    joins: int = Field(default=0, ge=0)
    """First round in which the owner takes part, counted from 0."""
    leaves: int | None = Field(default=None, ge=1)
    """First round in which it no longer takes part; None keeps it to the end."""
    bottom: FirstBottom = "random"
    """Initial bottom: ``random`` weights, or the ``mean`` of the bottoms of the owners that are present."""

    def covers(self, round: int) -> bool:
        return self.joins <= round and (self.leaves is None or round < self.leaves)


def members(owners: Sequence[str], memberships: Mapping[str, Membership], round: int) -> list[str]:
    """Return the owners that take part in a round, in owner order. Raises ``ValueError`` if there are none."""
    present = [name for name in owners if memberships.get(name, Membership()).covers(round)]
    if not present:
        raise ValueError(
            f"no owner takes part in round {round}; change joins and leaves in algorithm.members so that one does"
        )
    return present


def taking_mean_bottom(memberships: Mapping[str, Membership], round: int) -> list[str]:
    """Return the owners that join in this round with the mean bottom; none in round 0, where it does not exist."""
    return [name for name, m in memberships.items() if m.bottom == "mean" and m.joins == round > 0]


async def take_mean_bottom(owner: DataOwner, team: Team, context: RoundContext) -> None:
    """Load the mean of the peers' bottoms. Only here does MTSL send weights, so it takes the option to allow it."""
    peers: Mapping[str, OwnerHandle] = team.peers
    states = [await peer.weights() for peer in peers.values()]
    owner.load_weights(weighted_mean(states, [1 / len(states)] * len(states)))


def refuse_unguarded(options: Any, outline: RunOutline) -> None:
    """Raise ``ValueError`` where owners send more than their guards know of, or than a budget covers."""
    given = outline.given
    if isinstance(options.learning_rates, AutoRates):
        for key in ("privacy.z", "privacy.project", "privacy.dropout", "privacy.budget"):
            if key in given:
                raise ValueError(
                    f"algorithm.learning_rates are measured with derivatives of smashed data, which {key} does not "
                    f"cover; give the rates as numbers, or leave {key} out"
                )
    if "privacy.budget" in given and any(member.bottom == "mean" for member in options.members.values()):
        raise ValueError(
            "an owner in algorithm.members joins with bottom: mean, for which others send it their weights as they "
            "are, and no privacy.budget covers that; set bottom to random, or leave the budget out"
        )
