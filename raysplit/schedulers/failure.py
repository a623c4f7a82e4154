"""The decision after a failure in a round: repeat the round, repeat it without some owners, or stop.

It is pure, on plain records; the run acts on it. Single calls to stateful parties are never retried, so the smallest
unit that is repeated is a round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from raysplit.schedulers.cohort import QuorumRules


class FailureRules(QuorumRules):
    """Rules for lost places and refused updates."""

    on_lost_place: Literal["restart", "drop", "stop"] = "restart"
    """Consequence of a lost place: ``restart`` starts its parties again and repeats the round; ``drop`` repeats the
    round without the lost owners; ``stop`` ends the run."""
    on_bad_update: Literal["stop", "drop"] = "stop"
    """Consequence of a refused loss or update: ``stop`` ends the run; ``drop`` repeats the round without its owner."""
    exclude_after: int = Field(default=3, ge=1)
    """Number of refused updates after which an owner is excluded from the rest of the run."""
    restarts_per_round: int = Field(default=3, ge=0)
    """Largest number of repetitions of one round; a further failure ends the run."""
    restarts_per_run: int = Field(default=20, ge=0)
    """Largest number of repetitions in the whole run; a further failure ends it."""

    @property
    def drops_owners(self) -> bool:
        """Whether a round may be repeated without some of its owners."""
        return "drop" in (self.on_bad_update, self.on_lost_place)


@dataclass(frozen=True, kw_only=True)
class LostPlace:
    """The failure of a place, in which these parties are lost."""

    place: str
    reason: str
    parties: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BadUpdate:
    """The refusal of an owner's loss or update; ``times`` counts those of the run, this one included."""

    owner: str
    reason: str
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class BadParty:
    """A value that no honest sender sends, from a party that a round cannot do without: a server or an aggregator."""

    party: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The state of the run: the round's cohort as drawn and as remaining, and the repetitions so far."""

    drawn: tuple[str, ...]
    cohort: tuple[str, ...]
    restarts_in_round: int = 0
    restarts_in_run: int = 0


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """The decision to return to the last good round end, and repeat the failed round without some owners.

    Attributes:
        reason: the failure.
        without: owners that do not take part in the repeated round.
        exclude: those of them that are excluded from the rest of the run.
    """

    reason: str
    without: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stop:
    """The decision to end the run.

    Attributes:
        failure: what happened.
        way_out: why the run does not go on, and what to do.
    """

    failure: str
    way_out: str

    @property
    def reason(self) -> str:
        """The failure and the way out in a sentence."""
        return f"{self.failure}; {self.way_out}"


Failure = LostPlace | BadUpdate | BadParty


def decide(failure: Failure, standing: Standing, rules: FailureRules) -> Repeat | Stop:
    """Decide what follows from a failure."""
    if isinstance(failure, BadParty):
        way_out = f"no owner is dropped for what {failure.party} sends; raysplit resume continues when it is mended"
        return Stop(failure=failure.reason, way_out=way_out)
    limit = _limit(standing, rules)
    gone: tuple[str, ...]
    if isinstance(failure, BadUpdate):
        what = f"the update of {failure.owner} was refused: {failure.reason}"
        if rules.on_bad_update == "stop":
            return Stop(failure=what, way_out="reliability.on_bad_update: drop continues without this owner")
        gone, exclude = (failure.owner,), failure.times >= rules.exclude_after
    else:
        what = f"place {failure.place} is lost: {failure.reason}"
        if rules.on_lost_place == "stop":
            return Stop(
                failure=what, way_out="reliability.on_lost_place: restart starts it again and repeats the round"
            )
        dropping = rules.on_lost_place == "drop"
        gone, exclude = tuple(name for name in standing.cohort if dropping and name in failure.parties), False
    if limit is not None:
        return Stop(failure=what, way_out=limit)
    left = [name for name in standing.cohort if name not in gone]
    needed = rules.quorum_of(len(standing.drawn))
    if len(left) < needed:
        return Stop(
            failure=what,
            way_out=f"{len(left)} of {len(standing.drawn)} owners are left and the quorum is {needed} "
            f"(reliability.quorum); raysplit resume continues from the last checkpoint",
        )
    return Repeat(reason=what, without=gone, exclude=gone if exclude else ())


def _limit(standing: Standing, rules: FailureRules) -> str | None:
    if standing.restarts_in_round >= rules.restarts_per_round:
        return (
            f"the round has been repeated {standing.restarts_in_round} times, which is the limit "
            f"(reliability.restarts_per_round); raysplit resume continues from the last checkpoint"
        )
    if standing.restarts_in_run >= rules.restarts_per_run:
        return (
            f"the run has been set back {standing.restarts_in_run} times, which is the limit "
            f"(reliability.restarts_per_run); raysplit resume continues from the last checkpoint"
        )
    return None
