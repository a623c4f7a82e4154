"""What leaves an owner, and what it tells: plans within a limit of leakage, and trade-offs with time and price.

The measures are those of `raysplit.privacy.measures`, which a profile can have for the cut behind each unit. They need
not fall from cut to cut, so that the allowed cuts are a set and not an interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from raysplit.schedulers.cuts.plan import Plan
from raysplit.schedulers.cuts.problem import CutProblem, FreeOwnerCuts, InfeasibleError
from raysplit.schedulers.cuts.solve import busy_ms, pareto_front, with_owner_time

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


@dataclass(frozen=True, kw_only=True)
class TradeOff:
    """A plan, and what it costs beside time and price.

    Attributes:
        plan: the plan.
        num_bytes: smashed data and gradients that an owner sends and receives for a batch.
        leak: the leakage of its first cut; None where the profile does not say it.
    """

    plan: Plan
    num_bytes: int
    leak: float | None

    @property
    def costs(self) -> tuple[float, ...]:
        """Time of a round, price, bytes and leakage, each the better the smaller it is."""
        return self.plan.round_ms, self.plan.price_per_hour, self.num_bytes, self.leak or 0.0


def trade_offs(
    problem: CutProblem, metric: LeakMetric = "leak_fisher", owner_ms: Callable[[int, int], float] | None = None
) -> list[TradeOff]:
    """Find the trade-offs of time, price, bytes and leakage, the fastest first: no plan is as good as another in all.

    The owner's cuts decide its bytes and what the first of them tells; for each pair of them there are the trade-offs
    of time and price. A pair that cannot be better than a plan that is known is not looked at.

    Args:
        problem: the question.
        metric: the measure of leakage.
        owner_ms: time per batch of the owner's own units, for a first and a last cut; None leaves it out.

    Raises:
        InfeasibleError: no plan fits.
    """
    pairs = _owner_cuts(problem, ends_inside=owner_ms is not None)
    if known := [pair for pair in pairs if leak_at(problem, pair[0], metric) is not None]:
        pairs = known  # what is not measured would count as nothing
    own = {pair: owner_ms(*pair) if owner_ms is not None else 0.0 for pair in pairs}
    prices = [node.kind.price_per_hour for node in problem.nodes]
    fastest = [
        min(busy_ms(problem, node, unit) for node in problem.nodes) for unit in range(len(problem.profile.units))
    ]

    def bound(pair: tuple[int, int]) -> tuple[float, float, int, float]:
        """The least that a plan with these cuts can cost."""
        nodes_ms = problem.owners * sum(fastest[slice(*pair)]) / len(problem.nodes)
        time_ms = problem.batches_per_owner * max(nodes_ms, own[pair])
        price = sum(prices) if problem.use_all_nodes else min(prices)
        return time_ms, price, _owner_bytes(problem, pair), leak_at(problem, pair[0], metric) or 0.0

    found: list[TradeOff] = []
    failure: InfeasibleError | None = None
    for pair in sorted(pairs, key=bound):
        least = bound(pair)
        if any(_is_as_good(other.costs, least) for other in found):
            continue
        try:
            plans = pareto_front(replace(problem, units=(pair[0], pair[1] - 1), first_cuts=None))
        except InfeasibleError as error:
            failure = error
            continue
        for plan in plans:
            timed = replace(plan, owner_ms=own[pair])
            one = TradeOff(plan=timed, num_bytes=least[2], leak=leak_at(problem, pair[0], metric))
            if not any(_is_as_good(other.costs, one.costs) for other in found):
                found = [other for other in found if not _is_as_good(one.costs, other.costs)]
                found.append(one)
    if not found and isinstance(problem.units, FreeOwnerCuts) and owner_ms is not None:
        with_owner_time(problem, owner_ms)  # says which limit no cuts keep
    if not found:
        raise failure or InfeasibleError("no plan fits the owners' memory and the nodes; allow more of one of them")
    return sorted(found, key=lambda one: one.costs)


def _owner_cuts(problem: CutProblem, *, ends_inside: bool) -> list[tuple[int, int]]:
    """Return the first and last cuts among which a plan chooses, within the owner's memory."""
    lowest, highest = problem.boundaries
    if not isinstance(problem.units, FreeOwnerCuts):
        return [(lowest, highest)]
    sizes = [problem.replica_bytes(unit) for unit in problem.profile.units]
    between = len(problem.nodes) if problem.use_all_nodes else 1
    return [
        (first, end)
        for first in range(lowest, highest)
        if problem.may_begin_at(first)
        for end in range(first + between, highest + (not ends_inside))
        if sum(sizes[:first]) + sum(sizes[end:]) <= problem.units.memory_bytes
    ]


def _owner_bytes(problem: CutProblem, cuts: tuple[int, int]) -> int:
    """Return what an owner sends and receives for a batch: activations one way, as large gradients the other way."""
    units = problem.profile.units
    return 2 * sum(units[cut - 1].activation_bytes for cut in cuts if cut < len(units))


def _is_as_good(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True))
