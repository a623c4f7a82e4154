"""Affinities of tasks for tests: the published matrix, small ones by hand, and random ones."""

from __future__ import annotations

import numpy as np

from raysplit.schedulers.grouping.scores import Affinity

RECEIVED = {  # published with task affinity grouping for Taskonomy: recipient -> source -> affinity
    "s": {"d": 0.115374, "n": 0.048910, "k": 0.004547, "t": 0.008776},
    "d": {"s": 0.413559, "n": 0.291415, "k": 0.013537, "t": 0.073957},
    "n": {"s": 0.139824, "d": 0.220962, "k": 0.010494, "t": 0.076460},
    "k": {"s": 0.021099, "d": 0.013366, "n": 0.010729, "t": 0.689736},
    "t": {"s": 0.056692, "d": 0.036683, "n": 0.036007, "k": 0.303721},
}
PUBLISHED = Affinity(
    tasks=tuple("sdnkt"),
    values=tuple(tuple(RECEIVED[recipient].get(source, 0.0) for recipient in "sdnkt") for source in "sdnkt"),
)


def groups(text: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(group) for group in text.split())


def matrix(values: list[list[float]]) -> Affinity:
    return Affinity(tasks=tuple("abcdefghijklmnop"[: len(values)]), values=tuple(map(tuple, values)))


def random_affinity(size: int, seed: int) -> Affinity:
    return matrix(np.random.default_rng(seed).normal(size=(size, size)).tolist())
