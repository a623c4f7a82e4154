"""What to do after something went wrong in a round: repeat it, repeat it without somebody, or stop.

A pure decision on plain records; the run acts on it. Calls on stateful parts are never retried one by one, so the
smallest thing that is repeated is a round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import Field

from raysplit.schedulers.cohort import QuorumRules


class FailureRules(QuorumRules):
    """What follows from a loss."""

    on_lost_place: Literal["restart", "drop", "stop"] = "restart"
    """``restart`` repeats the round with the lost parties made anew; ``drop`` repeats it without the owners that were
    lost; ``stop`` ends the run."""
    on_bad_update: Literal["stop", "drop"] = "stop"
    """``stop``, or ``drop`` to repeat the round without the owner whose loss or update was refused."""
    exclude_after: int = Field(default=3, ge=1)
    """An owner that was dropped so often for bad updates takes part no more."""
    restarts_per_round: int = Field(default=3, ge=0)
    """More losses than this in one round end the run."""
    restarts_per_run: int = Field(default=20, ge=0)
    """More losses than this in the whole run end it."""


@dataclass(frozen=True, kw_only=True)
class LostPlace:
    """A place is gone, and these parties with it."""

    place: str
    reason: str
    parties: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BadUpdate:
    """An owner's loss or update was refused; ``times`` counts this run's, this one included."""

    owner: str
    reason: str
    times: int = 1


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where the run is: the round's cohort, as drawn and as left, and the restarts so far."""

    drawn: tuple[str, ...]
    cohort: tuple[str, ...]
    restarts_in_round: int = 0
    restarts_in_run: int = 0


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """Go back to the last good round end and on from there, without these owners in the round that failed.

    ``exclude`` names those of them that take part no more at all.
    """

    reason: str
    without: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Stop:
    """End the run; the reason says what to do."""

    reason: str


def decide(failure: LostPlace | BadUpdate, standing: Standing, rules: FailureRules) -> Repeat | Stop:
    """What follows from a failure."""
    limit = _limit(standing, rules)
    gone: tuple[str, ...]
    if isinstance(failure, BadUpdate):
        what = f"the update of {failure.owner} was refused: {failure.reason}"
        if rules.on_bad_update == "stop":
            return Stop(reason=f"{what}; reliability.on_bad_update: drop goes on without this owner")
        gone, exclude = (failure.owner,), failure.times >= rules.exclude_after
    else:
        what = f"place {failure.place} is lost: {failure.reason}"
        if rules.on_lost_place == "stop":
            return Stop(reason=f"{what}; reliability.on_lost_place: restart makes it anew and repeats the round")
        dropping = rules.on_lost_place == "drop"
        gone, exclude = tuple(name for name in standing.cohort if dropping and name in failure.parties), False
    if limit is not None:
        return Stop(reason=f"{what}; {limit}")
    left = [name for name in standing.cohort if name not in gone]
    needed = rules.quorum_of(len(standing.drawn))
    if len(left) < needed:
        return Stop(reason=f"{what}; {len(left)} of {len(standing.drawn)} owners are left and the quorum is {needed}")
    return Repeat(reason=what, without=gone, exclude=gone if exclude else ())


def _limit(standing: Standing, rules: FailureRules) -> str | None:
    if standing.restarts_in_round >= rules.restarts_per_round:
        return (
            f"the round has been repeated {standing.restarts_in_round} times, which is the limit "
            f"(reliability.restarts_per_round); raysplit resume goes on from the last checkpoint"
        )
    if standing.restarts_in_run >= rules.restarts_per_run:
        return (
            f"the run has been set back {standing.restarts_in_run} times, which is the limit "
            f"(reliability.restarts_per_run); raysplit resume goes on from the last checkpoint"
        )
    return None
