"""The planner of MP-SL: where to cut a model, and which compute node runs which part.

Tirana, Lalis and Chatzopoulos, "MP-SL: Multihop Parallel Split Learning", 2024, arXiv 2402.00208: minimize
`max F_i + max G_i` under the memory of each node for one replica per data owner. There are two exact solvers, which
share only the table of segments: an integer program (PuLP) and a dynamic program.

    problem = CutProblem(profile=load_profile("vgg19_mpsl_vm"), owners=150, nodes=nodes, units=(3, 21))
    print(solve_ilp(problem))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import inf

from raysplit.registry import number_of
from raysplit.schedulers.cuts.dp import SAME_TIME, best_by_dp, cheapest_by_dp
from raysplit.schedulers.cuts.ilp import Solver, best_by_ilp, cheapest_by_ilp
from raysplit.schedulers.cuts.plan import Plan, plan_for
from raysplit.schedulers.cuts.problem import ComputeNodeSpec, CutProblem, FreeOwnerCuts, InfeasibleError
from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB
from raysplit.schedulers.cuts.segments import Costs, Segments, segments_of

__all__ = [
    "ComputeNodeSpec",
    "CutProblem",
    "FreeOwnerCuts",
    "InfeasibleError",
    "pareto_front",
    "plan_for",
    "solve_dp",
    "solve_ilp",
    "with_owner_time",
]

_Solve = Callable[[CutProblem, Segments, Costs], Plan | None]


def solve_ilp(problem: CutProblem, solver: Solver = "cbc") -> Plan:
    """Find the optimal plan as an integer program.

    Args:
        problem: the chain, the nodes on offer and the objective.
        solver: "cbc" (part of PuLP) or "highs" (needs the package highspy).

    Raises:
        InfeasibleError: if no plan fits.
    """
    return _solve(problem, best=partial(best_by_ilp, solver=solver), cheapest=partial(cheapest_by_ilp, solver=solver))


def solve_dp(problem: CutProblem) -> Plan:
    """Find the optimal plan by dynamic programming.

    Raises:
        InfeasibleError: if no plan fits.
        ValueError: for more than about 16 nodes that all differ; equal nodes hardly count.
    """
    return _solve(problem, best=best_by_dp, cheapest=cheapest_by_dp)


def pareto_front(problem: CutProblem) -> list[Plan]:
    """Find all Pareto-optimal plans of time per batch and price per hour, from the fastest to the cheapest.

    Time is what the objective counts (`max F_i + max G_i` for "price"), at most `max_time_ms`. With `use_all_nodes`
    there is only one price; set it to False to choose among nodes. Raises InfeasibleError if no plan fits.
    """
    segments = segments_of(problem)
    costs = segments.times(problem)
    plans: list[Plan] = []
    plan = best_by_dp(problem, segments, costs)
    while plan is not None and plan.objective_ms <= problem.max_time_ms * SAME_TIME:
        plans.append(plan)
        plan = best_by_dp(problem, segments, costs, max_price_per_hour=_just_below(plan.price_per_hour))
    if not plans:
        raise InfeasibleError(_reason(problem, segments, best_by_dp))
    return plans


def with_owner_time(problem: CutProblem, owner_ms: Callable[[int, int], float]) -> CutProblem:
    """Fix the owner's free cuts so that the slower of the owners and of the nodes is as fast as possible.

    The objective alone counts the nodes' time, and would leave almost all units with the owners. The owners work at the
    same time, each on its own batch, while the nodes serve all of them: a batch of everybody takes the longer of
    `owner_ms` and ``owners`` times the objective. The owner keeps at least the first units, until inputs
    do not leave it, and the last unit.

    Args:
        problem: with `FreeOwnerCuts`; one with fixed units is returned as it is.
        owner_ms: time per batch of the owner's own units, for a first and a last cut.

    Raises:
        InfeasibleError: if no cuts fit the owner's memory and the nodes.
    """
    if not isinstance(problem.units, FreeOwnerCuts):
        return problem
    lowest, num_units = problem.boundaries
    sizes = [problem.replica_bytes(unit) for unit in problem.profile.units]
    fastest = [min(busy_ms(problem, node, unit) for node in problem.nodes) for unit in range(num_units)]
    pairs = [
        (first, end)
        for first in range(lowest, num_units - 1)
        if problem.may_begin_at(first)
        for end in range(first + 1, num_units)
        if sum(sizes[:first]) + sum(sizes[end:]) <= problem.units.memory_bytes
        and (not problem.use_all_nodes or end - first >= len(problem.nodes))
    ]
    best_ms, best, failure = inf, None, None
    for first, end in sorted(pairs, key=lambda pair: owner_ms(*pair)):
        own_ms = owner_ms(first, end)
        if own_ms >= best_ms:
            break
        if problem.owners * sum(fastest[first:end]) / len(problem.nodes) >= best_ms:
            continue  # even without a gap on the fastest nodes
        fixed = replace(problem, units=(first, end - 1))
        timed = replace(fixed, objective="sum_of_max", max_time_ms=inf) if problem.objective == "price" else fixed
        try:
            nodes_ms = problem.owners * solve_dp(timed).objective_ms
        except InfeasibleError as error:
            failure = error
            continue
        if max(nodes_ms, own_ms) < best_ms:
            best_ms, best = max(nodes_ms, own_ms), fixed
    if best is None:
        firsts = [first for first in range(lowest, num_units) if problem.may_begin_at(first)]
        num_between = len(problem.nodes) if problem.use_all_nodes else 1
        earliest = min(firsts, default=num_units)
        if failure is None and (between := max(0, num_units - 1 - earliest)) < num_between:
            raise InfeasibleError(
                f"{number_of(num_between, 'node')} must get {number_of(num_between, 'unit')} or more between the "
                f"owner's cuts, and there are {between}: the first cut is {earliest} at the earliest, and the last "
                f"unit stays with the owner; use fewer nodes, or allow an earlier first cut"
            )
        least = _least(sizes, firsts, num_between)
        raise failure or InfeasibleError(
            f"the data owner has {_size(problem.units.memory_bytes)} and no cuts leave it less than {_size(least)}; "
            f"give it more memory, a smaller batch or fewer nodes"
        )
    return best


def _least(sizes: Sequence[int], firsts: Sequence[int], num_between: int) -> int:
    """Return what an owner holds at least: the ends of the model, with enough units between them for the nodes."""
    ends = [(first, end) for first in firsts for end in range(first + num_between, len(sizes))]
    return min((sum(sizes[:first]) + sum(sizes[end:]) for first, end in ends), default=sum(sizes))


def busy_ms(problem: CutProblem, node: ComputeNodeSpec, unit: int) -> float:
    """Return the time that a batch of one owner keeps a node busy with a unit."""
    timed = problem.units_on(node)[unit]
    return problem.slowdown_on(node) * (timed.forward_ms + timed.backward_ms + timed.update_ms)


def _just_below(price_per_hour: float) -> float:
    return price_per_hour * (1 - 1e-9) - 1e-12


def _solve(problem: CutProblem, *, best: _Solve, cheapest: _Solve) -> Plan:
    segments = segments_of(problem)
    solve = cheapest if problem.objective == "price" else best
    plan = solve(problem, segments, segments.times(problem))
    if plan is None:
        raise InfeasibleError(_reason(problem, segments, best))
    return plan


def _reason(problem: CutProblem, segments: Segments, best: _Solve) -> str:
    """Say what the nearest plan lacks: drop the memory limits of the nodes first, then the time limit."""
    nearest = best(problem, segments, segments.shortages())
    if nearest is None:
        assert isinstance(problem.units, FreeOwnerCuts), "only the owner's memory is left to fail"
        if problem.first_cuts is not None:
            allowed = ", ".join(map(str, sorted(problem.first_cuts)))
            return (
                f"no first cut within the limit of leakage ({allowed}) fits the "
                f"owner's memory of {_size(problem.units.memory_bytes)}; allow more leakage or give it more memory"
            )
        missing = float(segments.owner_bytes[0, -1]) - problem.units.memory_bytes
        return (
            f"the data owner lacks {_size(missing)} for {_kept(segments.offset)}, which it always keeps (it has "
            f"{_size(problem.units.memory_bytes)}); give it more memory or a smaller batch"
        )
    worst = max(nearest.shares, key=lambda share: share.memory_bytes - share.memory_limit_bytes)
    if worst.memory_bytes > worst.memory_limit_bytes:
        missing = worst.memory_bytes - worst.memory_limit_bytes
        return (
            f"node {worst.node} lacks {_size(missing)} for {problem.owners} replicas of units "
            f"{worst.first_unit}-{worst.last_unit} (it has {_size(worst.memory_limit_bytes)}), and no other placement "
            "lacks less; offer more memory or more nodes, or take fewer owners or a smaller batch"
        )
    fastest = best(problem, segments, segments.times(problem))
    assert fastest is not None, "memory suffices, so there is a fastest plan"
    excess_ms = fastest.objective_ms - problem.max_time_ms
    return (
        f"the fastest plan takes {fastest.objective_ms:.2f} ms per batch, {excess_ms:.2f} ms more than max_time_ms "
        f"{problem.max_time_ms:g}; allow more time or offer faster nodes"
    )


def _kept(num_units: int) -> str:
    return "unit 0" if num_units == 1 else f"units 0-{num_units - 1}"


def _size(num_bytes: float) -> str:
    if num_bytes >= 0.1 * BYTES_PER_GIB:
        return f"{num_bytes / BYTES_PER_GIB:.2f} GiB"
    return f"{num_bytes / 2**20:.3g} MiB"
