"""When a round of an elastic run may begin, and with whom: wait for room, go on with who is there, or give up.

Owners and compute nodes come as the cluster finds room for their places, and leave with places that are lost. A pure
decision on plain records, taken before every round and after every loss; the run acts on it. Who takes part follows
from the roll alone, so the same history of rolls gives the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class ElasticRules:
    """What the user wants.

    Attributes:
        min_owners, min_places: a round begins with so many at least.
        wait_s: for so long it is waited for them, and for whom no round can do without.
        return_s: for so long it is waited for those who were lost in the round that is to be repeated.
    """

    min_owners: int = 1
    min_places: int = 1
    wait_s: float = 600.0
    return_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class RoundCall:
    """Who is there.

    Attributes:
        owners: with a place, in owner order.
        missing: why no round can do without somebody who has no place; empty when everybody needed is there.
        awaited: who was lost in the round that is to be repeated, is wanted back and not there yet.
        num_places: places that are up.
        waited_s: since the run began to wait.
    """

    owners: tuple[str, ...]
    missing: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()
    num_places: int = 1
    waited_s: float = 0.0


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
    """Call the roll again in a while."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class GiveUp:
    """End the run; the reason says what to do."""

    reason: str


def decide(roll: RoundCall, before: Sequence[str], rules: ElasticRules) -> Begin | Wait | GiveUp:
    """What follows from a roll, ``before`` being the members of the round before."""
    lacks = list(roll.missing)
    if len(roll.owners) < rules.min_owners:
        lacks.append(f"{len(roll.owners)} owners are there and min_owners is {rules.min_owners}")
    if roll.num_places < rules.min_places:
        lacks.append(f"{roll.num_places} places are up and min_places is {rules.min_places}")
    if lacks and roll.waited_s >= rules.wait_s:
        return GiveUp(
            reason=f"no round can begin after {roll.waited_s:.0f} s: {'; '.join(lacks)}; offer Ray more machines, or "
            f"raise cluster.elastic.wait_s; raysplit resume goes on from the last checkpoint"
        )
    if lacks:
        return Wait(reason="; ".join(lacks))
    if roll.awaited and roll.waited_s < rules.return_s:
        return Wait(reason=f"{_named(roll.awaited)} may come back")
    return Begin(
        members=roll.owners,
        came=tuple(name for name in roll.owners if name not in before),
        left=tuple(name for name in before if name not in roll.owners),
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
