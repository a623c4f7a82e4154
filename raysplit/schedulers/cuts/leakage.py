"""Limit what leaves an owner tells: allow only first cuts whose measured leakage is within a budget.

The measures are those of `raysplit.privacy.measures`, which a profile can have for the cut behind each unit. They need
not fall from cut to cut, so that the allowed cuts are a set and not an interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from raysplit.schedulers.cuts.plan import Plan
from raysplit.schedulers.cuts.problem import CutProblem, FreeOwnerCuts, InfeasibleError
from raysplit.schedulers.cuts.solve import pareto_front

LeakMetric = Literal["leak_fisher", "dcor2_unbiased"]
SENT_AS_THEY_ARE = 1.0
"""Leakage of a cut at which raw inputs cross."""


def leak_at(problem: CutProblem, cut: int, metric: LeakMetric) -> float | None:
    """Return the leakage of a first cut by the problem's profile; None where the profile does not say it."""
    unit = problem.profile.units[cut - 1]
    measured: float | None = getattr(unit, metric)
    return SENT_AS_THEY_ARE if measured is None and unit.sends_inputs else measured


def first_cuts(problem: CutProblem) -> list[int]:
    """Return the first cuts among which a plan chooses, rising."""
    low, high = problem.boundaries
    return list(range(low, high)) if isinstance(problem.units, FreeOwnerCuts) else [low]


def limited(problem: CutProblem, max_leak: float, metric: LeakMetric = "leak_fisher") -> CutProblem:
    """Return the problem with only those first cuts that leak at most ``max_leak``, before any solver runs.

    Raises:
        ValueError: the profile has no measures of leakage.
        InfeasibleError: all first cuts leak more; the message has the one that leaks least.
    """
    leaks = {cut: leak_at(problem, cut, metric) for cut in first_cuts(problem)}
    known = {cut: value for cut, value in leaks.items() if value is not None and problem.may_begin_at(cut)}
    if not known:
        raise ValueError(
            f"the profile of {problem.profile.model} has no {metric}; measure it with raysplit profile --leak CONFIG"
        )
    allowed = frozenset(cut for cut, value in known.items() if value <= max_leak)
    if not allowed:
        least = min(known, key=lambda cut: known[cut])
        name = problem.profile.units[least - 1].name
        among = "the first cut is given and" if len(known) == 1 else "the least leaky first cut"
        raise InfeasibleError(
            f"--max-leak is {max_leak:g} by {metric}, and {among} {least} (after {name}) "
            f"has {known[least]:.3g}; allow more, leave more units with the owners, or use a defence"
        )
    return replace(problem, first_cuts=allowed)


def front_with_leak(
    problem: CutProblem,
    metric: LeakMetric = "leak_fisher",
    fixed: Callable[[CutProblem], CutProblem] = lambda problem: problem,
) -> list[tuple[Plan, float]]:
    """Find the trade-offs of time, price and leakage, each plan with its leakage, the fastest first.

    No plan is as good as another one in all three. ``fixed`` may fix the owner's cuts for each limit of leakage, as
    `with_owner_time` does. Raises as `limited` and `pareto_front`.
    """
    limited(problem, SENT_AS_THEY_ARE, metric)
    cuts = [cut for cut in first_cuts(problem) if problem.may_begin_at(cut)]
    leaks = sorted({leak for cut in cuts if (leak := leak_at(problem, cut, metric)) is not None})
    found: list[tuple[Plan, float]] = []
    failure: InfeasibleError | None = None
    for most in leaks:
        try:
            plans = pareto_front(fixed(limited(problem, most, metric)))
        except InfeasibleError as error:
            failure = error
            continue
        for plan in plans:
            leak = leak_at(problem, plan.cuts[0], metric)
            assert leak is not None
            if not any(_is_as_good(other, plan, leak) for other in found):
                found.append((plan, leak))
    if not found:
        raise failure or InfeasibleError("no plan fits")
    return sorted(found, key=lambda pair: (pair[0].objective_ms, pair[0].price_per_hour, pair[1]))


def _is_as_good(other: tuple[Plan, float], plan: Plan, leak: float) -> bool:
    before, its_leak = other
    return (
        its_leak <= leak and before.objective_ms <= plan.objective_ms and before.price_per_hour <= plan.price_per_hour
    )
