"""Claims of a paper, and the rule by which the runs of a protocol decide each of them.

A difference is `this` minus `that`, signed so that more is better for `this`, paired by seed. A rule is fixed with the
protocol: a condition is shown where the whole interval is above ``least``, refuted where all of it is below, and
otherwise not decided.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from raysplit.schedulers.rules import Rules

Decision = Literal["shown", "refuted", "not decided", "not run"]
Unit = Literal["points", "percent", "plain"]


class Condition(Rules):
    """Settings under which a difference is measured."""

    label: str = ""
    """Name in tables; empty for the only condition."""
    set: dict[str, Any] = {}
    """Settings that both sides have, as the steps of the protocol write them."""


class Claim(Rules):
    """One claim: what the paper says, where, and what decides it."""

    name: str
    text: str
    """What the paper says, in one sentence."""
    paper: str
    """The figure of the paper."""
    place: str
    """Where the paper says it."""
    takes: str
    """What it takes to decide it here."""
    kind: Literal["difference", "widest", "equal", "computed", "tested"]
    """``difference``: of a column, condition by condition; ``widest``: the largest difference over conditions and
    rounds; ``equal``: whether two arms are the same to the last digit that is kept; ``computed``: without training;
    ``tested``: held by tests of the project."""
    this: dict[str, Any] = {}
    that: dict[str, Any] = {}
    where: tuple[Condition, ...] = (Condition(),)
    column: str = ""
    at: Literal["every", "last", "chosen"] = "last"
    """Rounds that count: the mean of ``every`` round, the ``last``, or that of the lowest loss on validation samples,
    ``chosen`` for either side and seed by itself."""
    choose: tuple[str, ...] = ()
    """Settings that are chosen together with the round."""
    better: Literal["higher", "lower"] = "higher"
    unit: Unit = "points"
    """``points``: hundred times the difference; ``percent``: of the value of `that`; ``plain``: as it is."""
    least: float = 0.0
    need: Literal["all", "any"] = "all"
    """Conditions that must be shown."""
    seeds: int = Field(default=3, ge=2)
    """Smallest number of seeds that decides anything."""
    evidence: str = ""
    """The test or the function that a claim rests on which is not decided by runs."""
    ours: str = ""
    """What a test holds, or a benchmark measured, in words."""
    decision: Decision = "shown"
    """The decision that goes with ``ours``."""

    @property
    def rule(self) -> str:
        """The rule of the verdict in words."""
        if self.kind in ("computed", "tested"):
            return self.evidence
        if self.kind == "equal":
            return "shown where all kept digits agree, refuted where one does not"
        which = {"all": "in every row", "any": "in one row"}[self.need] if len(self.where) > 1 else ""
        if self.kind == "widest":
            which = "where the mean over the seeds is largest"
        unit = {"points": " points", "percent": " %", "plain": ""}[self.unit]
        text = f"shown: the 95 % interval is above {self.least:g}{unit} {which}".rstrip()
        return f"{text}; refuted: below; at least {self.seeds} seeds"
