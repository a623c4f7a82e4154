"""The exact planner without a solver: caps on the two stage times, and a dynamic program under each pair of caps.

Minimizing `max F_i + max G_i` (objective of Tirana, Lalis and Chatzopoulos, "MP-SL: Multihop Parallel Split Learning",
2024, arXiv 2402.00208) means finding the pair of caps (a, b) with the smallest sum such that some plan keeps every
forward stage within a and every backward stage within b. The feasible pairs are bounded by a staircase. Between two of
its corners (a1, b1) and (a2, b2), a1 < a2 and b1 > b2, no plan is better than a1 + b2, which excludes most pairs. Every
optimum is one of the caps' finitely many values, so the result is exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from raysplit.schedulers.cuts.plan import Plan, plan_for
from raysplit.schedulers.cuts.problem import CutProblem
from raysplit.schedulers.cuts.reach import Space, complete, space_of, sweep, trace
from raysplit.schedulers.cuts.segments import Bools, Costs, Floats, Segments

#: Times that differ by less than this factor are equal up to rounding.
SAME_TIME = 1 + 1e-9


@dataclass(frozen=True, kw_only=True)
class Caps:
    """Caps on the two costs of a segment within which a plan exists."""

    first: float
    second: float

    @property
    def total(self) -> float:
        return self.first + self.second


def best_by_dp(
    problem: CutProblem, segments: Segments, costs: Costs, max_price_per_hour: float = math.inf
) -> Plan | None:
    """Find the plan of lowest cost within a price, the cheapest of several; None if nothing fits."""
    search = _search(problem, segments, costs, max_price_per_hour)
    caps = search.smallest_total()
    if caps is None:
        return None
    allowed = search.within(caps.first, caps.second)
    reached = sweep(search.space, allowed)
    done = np.flatnonzero(complete(search.space, reached))
    state = int(done[np.argmin(search.space.price_per_hour[done])])
    return plan_from(problem, segments, *trace(search.space, allowed, reached, state))


def cheapest_by_dp(problem: CutProblem, segments: Segments, costs: Costs) -> Plan | None:
    """Find the cheapest plan of cost at most `max_time_ms`, the fastest of several; None if nothing fits."""
    prices = np.unique(space_of(problem, segments).price_per_hour)

    def in_time(price: float) -> bool:
        caps = _search(problem, segments, costs, price).smallest_total()
        return caps is not None and caps.total <= problem.max_time_ms * SAME_TIME

    price = _smallest(prices, in_time)
    return None if price is None else best_by_dp(problem, segments, costs, price)


def plan_from(problem: CutProblem, segments: Segments, positions: list[int], classes: list[int]) -> Plan:
    """Build a plan, whose nodes of a class are used in the order offered."""
    waiting = [list(nodes) for nodes in segments.classes]
    return plan_for(
        problem,
        [segments.offset + position for position in positions],
        [waiting[c].pop(0).name for c in classes],
    )


def _search(problem: CutProblem, segments: Segments, costs: Costs, max_price_per_hour: float) -> _Search:
    space = space_of(problem, segments)
    affordable = space.price_per_hour <= max_price_per_hour
    return _Search(space=replace(space, final=space.final & affordable), costs=costs)


@dataclass(frozen=True, kw_only=True)
class _Search:
    space: Space
    costs: Costs

    def within(self, first: float, second: float) -> Bools:
        return self.costs.allowed & (self.costs.first <= first) & (self.costs.second <= second)

    def works(self, first: float, second: float) -> bool:
        """Whether some plan keeps both caps."""
        return bool(complete(self.space, sweep(self.space, self.within(first, second))).any())

    def smallest_total(self) -> Caps | None:
        """Find the caps with the smallest sum; None if no plan exists."""
        allowed = self.costs.allowed
        firsts, seconds = np.unique(self.costs.first[allowed]), np.unique(self.costs.second[allowed])
        lowest_second = _smallest(seconds, lambda second: self.works(math.inf, second))
        if lowest_second is None:
            return None
        # The two ends of the staircase: the lowest second cap, and the lowest first one.
        right = Caps(first=self._first(firsts, lowest_second), second=lowest_second)
        lowest_first = self._first(firsts, math.inf)
        left = Caps(first=lowest_first, second=self._second(seconds, lowest_first))
        best = min(left, right, key=lambda caps: caps.total)
        gaps = [(left, right)]
        while gaps:  # between two corners, only values that beat the best sum so far are candidates
            left, right = gaps.pop()
            inner = firsts[(firsts > left.first) & (firsts < right.first) & (firsts + right.second < best.total)]
            if inner.size == 0:
                continue
            lower = seconds[(seconds > right.second) & (seconds < left.second) & (inner[0] + seconds < best.total)]
            if lower.size == 0:
                continue
            middle = float(inner[len(inner) // 2])
            second = _smallest(lower, partial(self.works, middle))
            if second is None:  # no better plan with a first cap up to `middle`
                gaps.append((Caps(first=middle, second=left.second), right))
                continue
            corner = Caps(first=self._first(inner[: len(inner) // 2 + 1], second), second=second)
            best = min(best, corner, key=lambda caps: caps.total)
            gaps += [(left, corner), (Caps(first=middle, second=second), right)]
        return best

    def _first(self, candidates: Floats, second: float) -> float:
        found = _smallest(candidates, lambda first: self.works(first, second))
        assert found is not None, "the caller knows that the largest candidate works"
        return found

    def _second(self, candidates: Floats, first: float) -> float:
        found = _smallest(candidates, lambda second: self.works(first, second))
        assert found is not None, "the caller knows that the largest candidate works"
        return found


def _smallest(candidates: Floats, works: Callable[[float], bool]) -> float | None:
    """Find the smallest of the rising candidates that works, by bisection: if one works, all larger ones do."""
    if candidates.size == 0 or not works(float(candidates[-1])):
        return None
    low, high = 0, len(candidates) - 1
    while low < high:
        middle = (low + high) // 2
        if works(float(candidates[middle])):
            high = middle
        else:
            low = middle + 1
    return float(candidates[low])
