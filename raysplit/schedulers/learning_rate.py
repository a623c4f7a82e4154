"""Learning-rate schedules: a factor on the configured learning rate for each round, constant within a round."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

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
