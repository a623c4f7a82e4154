"""Gain over chance, and one number for what a defence leaks and costs.

The number is VFLAIR's Defense Capability Score (Zou et al., 2023, arXiv 2310.09827), on figures that are normalized by
their chance levels. 1 is no leakage at full utility; full leakage at full utility, or none without utility, is 0.586;
the worst is 0.5. Never show it without its two parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True, kw_only=True)
class Score:
    """A defence in numbers.

    Attributes:
        value: the score, from 0.5 to 1.
        attack: gain of the strongest attack, from 0 to 1.
        task: the task's metric in proportion to that without a defence, both above chance, from 0 to 1.
        beta: weight of the task against the attack.
    """

    value: float
    attack: float
    task: float
    beta: float


def gain(reached: float, chance: float, best: float = 1.0) -> float:
    """Return the share of the way from chance to the best figure; negative where chance is better."""
    return (reached - chance) / (best - chance) if best != chance else 0.0


def score(attack: float, task: float, beta: float = 0.5) -> Score:
    """Score an attack's gain and what is left of the task, both cut to the range from 0 to 1."""
    attack, task = min(max(attack, 0.0), 1.0), min(max(task, 0.0), 1.0)
    value = 1 / (1 + sqrt((1 - beta) * attack**2 + beta * (1 - task) ** 2))
    return Score(value=value, attack=attack, task=task, beta=beta)


def attack_gain(by_kind: Mapping[str, Sequence[float]], weights: Mapping[str, float] | None = None) -> float:
    """Return the weighted mean over kinds of attacks of their mean gains, each cut to the range from 0 to 1."""
    means = {kind: sum(min(max(g, 0.0), 1.0) for g in gains) / len(gains) for kind, gains in by_kind.items() if gains}
    if not means:
        return 0.0
    weight = {kind: 1.0 if weights is None else weights.get(kind, 1.0) for kind in means}
    return sum(means[kind] * weight[kind] for kind in means) / sum(weight.values())
