"""When a round of an elastic run may begin, and with which owners: begin, wait, or end the run.

Owners and compute nodes join when the cluster has room for their places, and leave with places that are lost. This is a
pure decision on plain records, made before every round and after every loss; the run acts on it. The members of a round
follow from it alone, so the same history of members gives the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from raysplit.schedulers.rules import Rules

_NAMED = 8


class MembershipRules(Rules):
    """Rules for the beginning of a round in an elastic run."""

    min_owners: int = Field(default=1, ge=1)
    """Smallest number of owners with which a round begins."""
    min_places: int = Field(default=1, ge=1)
    """Smallest number of places with which a round begins; parties other than owners run in the first of these
    places."""
    wait_s: float = Field(default=600.0, ge=0)
    """Seconds to wait for enough owners and places, and for the parties that every round needs."""


@dataclass(frozen=True, kw_only=True)
class RoundCall:
    """The state of an elastic run before a round.

    Attributes:
        owners: owners that have a place, in owner order.
        missing: a reason for each required party without a place; empty if all required parties have one.
        awaited: parties that were lost in the round to repeat, should return, and have no place yet.
        num_places: number of places that are up.
        waited_s: seconds since the run began to wait.
        return_s: seconds to wait for the ``awaited`` parties.
    """

    owners: tuple[str, ...]
    missing: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()
    num_places: int = 1
    waited_s: float = 0.0
    return_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Begin:
    """The decision to begin the round with these members; ``came`` and ``left`` are the changes since the last one."""

    members: tuple[str, ...]
    came: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    def row(self, num_places: int) -> dict[str, Any]:
        """Return the columns of the round's metrics from which `members_after` rebuilds the members."""
        return {
            "num_members": len(self.members),
            "num_places": num_places,
            "came": list(self.came),
            "left": list(self.left),
        }


@dataclass(frozen=True, kw_only=True)
class Wait:
    """The decision to wait and ask again."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """The decision to end the run; the reason says what to do."""

    reason: str


def decide(call: RoundCall, before: Sequence[str], rules: MembershipRules) -> Begin | Wait | GiveUp:
    """Decide whether to begin a round; ``before`` are the members of the last one."""
    lacks = list(call.missing)
    if len(call.owners) < rules.min_owners:
        lacks.append(f"{len(call.owners)} owners have a place and min_owners is {rules.min_owners}")
    if call.num_places < rules.min_places:
        lacks.append(f"{call.num_places} places are up and min_places is {rules.min_places}")
    if lacks and call.waited_s >= rules.wait_s:
        return GiveUp(
            reason=f"no round can begin after {call.waited_s:.0f} s: {'; '.join(lacks)}; offer Ray more machines, or "
            f"raise cluster.elastic.wait_s; raysplit resume continues from the last checkpoint"
        )
    if lacks:
        return Wait(reason="; ".join(lacks))
    if call.awaited and call.waited_s < call.return_s:
        return Wait(reason=f"{_named(call.awaited)} may come back")
    return Begin(
        members=call.owners,
        came=tuple(name for name in call.owners if name not in before),
        left=tuple(name for name in before if name not in call.owners),
    )


def members_after(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Rebuild the members of the last of these rounds from who came and left, in the order in which they came."""
    members: dict[str, None] = {}
    for row in rows:
        members |= dict.fromkeys(row.get("came") or ())
        for name in row.get("left") or ():
            members.pop(name, None)
    return tuple(members)


def change_in_words(begin: Begin) -> str:
    """Describe who came and who left, for the log."""
    parts = [f"{_named(names)} {what}" for names, what in ((begin.came, "came"), (begin.left, "left")) if names]
    return "; ".join(parts) or "nobody came or left"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
