"""When a round of an elastic run may begin, and with whom: wait for room, go on with who is there, or give up.

Owners and compute nodes come as the cluster finds room for their places, and leave with places that are lost. A pure
decision on plain records, taken before every round and after every loss; the run acts on it. Who takes part follows
from that alone, so the same history of members gives the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from raysplit.schedulers.rules import Rules

_NAMED = 8


class MembershipRules(Rules):
    """With whom a round of an elastic run may begin."""

    min_owners: int = Field(default=1, ge=1)
    """A round begins with so many owners at least."""
    min_places: int = Field(default=1, ge=1)
    """A round begins with so many places at least; parties that are no owners live in the first of them."""
    wait_s: float = Field(default=600.0, ge=0)
    """Seconds to wait for them, and for parties that every round needs."""


@dataclass(frozen=True, kw_only=True)
class RoundCall:
    """Who is there.

    Attributes:
        owners: with a place, in owner order.
        missing: why no round can do without somebody who has no place; empty when everybody needed is there.
        awaited: who was lost in the round that is to be repeated, is wanted back and not there yet.
        num_places: places that are up.
        waited_s: since the run began to wait.
        return_s: for so long it waits for those who were lost in the round that is to be repeated.
    """

    owners: tuple[str, ...]
    missing: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()
    num_places: int = 1
    waited_s: float = 0.0
    return_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Begin:
    """The round begins with these members; ``came`` and ``left`` since the round before."""

    members: tuple[str, ...]
    came: tuple[str, ...] = ()
    left: tuple[str, ...] = ()

    def row(self, num_places: int) -> dict[str, Any]:
        """Columns of the round's metrics, from which `members_after` tells the members again."""
        return {
            "num_members": len(self.members),
            "num_places": num_places,
            "came": list(self.came),
            "left": list(self.left),
        }


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Ask again in a while."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """End the run; the reason says what to do."""

    reason: str


def decide(call: RoundCall, before: Sequence[str], rules: MembershipRules) -> Begin | Wait | GiveUp:
    """What follows from who is there, ``before`` being the members of the round before."""
    lacks = list(call.missing)
    if len(call.owners) < rules.min_owners:
        lacks.append(f"{len(call.owners)} owners are there and min_owners is {rules.min_owners}")
    if call.num_places < rules.min_places:
        lacks.append(f"{call.num_places} places are up and min_places is {rules.min_places}")
    if lacks and call.waited_s >= rules.wait_s:
        return GiveUp(
            reason=f"no round can begin after {call.waited_s:.0f} s: {'; '.join(lacks)}; offer Ray more machines, or "
            f"raise cluster.elastic.wait_s; raysplit resume goes on from the last checkpoint"
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
    """The members of the last of these rounds, out of who came and left; in the order of their coming."""
    members: dict[str, None] = {}
    for row in rows:
        members |= dict.fromkeys(row.get("came") or ())
        for name in row.get("left") or ():
            members.pop(name, None)
    return tuple(members)


def change_in_words(begin: Begin) -> str:
    """Who came and who left, for the log."""
    parts = [f"{_named(names)} {what}" for names, what in ((begin.came, "came"), (begin.left, "left")) if names]
    return "; ".join(parts) or "nobody came or left"


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
