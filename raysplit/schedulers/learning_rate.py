"""Learning-rate schedules: a factor on the configured learning rate for each round, or for each step of a round.

Factors follow from the number of the round and of the step alone, so that all parts of a model know them without a
message, and a resumed run continues with the same ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi
from typing import Literal

Schedule = Callable[[int, int], float]


def constant(round: int, rounds: int) -> float:
    return 1.0


def poly(round: int, rounds: int) -> float:
    """Decay as (1 - round / rounds) ** 0.9."""
    return float((1 - round / rounds) ** 0.9)


def cosine(round: int, rounds: int) -> float:
    """Decay as half a cosine from 1 to 0."""
    return 0.5 * (1 + cos(pi * round / rounds))


def step(round: int, rounds: int) -> float:
    """Multiply by a tenth at every half of the run."""
    return float(0.1 ** (round // max(1, rounds // 2)))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "poly": poly, "cosine": cosine, "step": step}

Per = Literal["round", "step"]
"""What a schedule counts."""


@dataclass(frozen=True, kw_only=True)
class StepRates:
    """Factors on the learning rate that change from step to step: a warm-up, and a schedule over all steps of the run.

    Step s of round r is step r * S + s of the run, where S is the number of steps of the largest owner in a round: an
    owner with fewer steps has the same factor in the same step.

    Attributes:
        schedule: name of the schedule over the steps of the run; ``constant`` where the schedule counts rounds.
        rounds: rounds of the run.
        steps: steps of the largest owner in a round.
        warmup_steps: steps over which the factor rises linearly to 1; 0 for none.
    """

    schedule: str = "constant"
    rounds: int
    steps: int
    warmup_steps: int = 0

    def factor(self, round: int, step: int) -> float:
        """Return the factor of a step, counted from 0 within its round."""
        number = round * self.steps + step
        warmup = min(1.0, (number + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return warmup * SCHEDULES[self.schedule](number, self.rounds * self.steps)
