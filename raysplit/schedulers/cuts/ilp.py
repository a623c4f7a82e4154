"""The planner as an integer program: the objective and the constraints of MP-SL in a tight form.

Tirana, Lalis and Chatzopoulos ("MP-SL: Multihop Parallel Split Learning", 2024, arXiv 2402.00208) place unit by unit,
`x_ij = 1` if unit j runs on node i, and require that a node's units be consecutive. Here a variable stands for a whole
*segment* on a class of equal nodes, so that consecutive units (8) and memory (9) hold by construction:

    y[c, s, e] = 1         units s to e - 1 run on a node of class c       (only where they fit its memory)
    flow at each position  as many segments end there as start there: every unit runs once
    sum y[c, ., .] = n_c   (<= n_c when nodes may stay unused)                                 (7)
    L_fwd  >= sum over the segments across unit j of forward[c, s, e]  y[c, s, e]     for each j          (10)
    L_back >= sum over the segments across unit j of backward[c, s, e] y[c, s, e]     for each j          (11)

Exactly one segment lies across each unit, so the last two are (10) and (11), and they stay strong when y is fractional.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pulp

from raysplit.schedulers.cuts.dp import SAME_TIME, plan_from
from raysplit.schedulers.cuts.plan import Plan
from raysplit.schedulers.cuts.problem import CutProblem, FreeOwnerCuts
from raysplit.schedulers.cuts.segments import Costs, Floats, Segments

Solver = Literal["cbc", "highs"]


@dataclass(frozen=True, kw_only=True)
class _Model:
    """The variables and constraints, and the terms of the possible objectives."""

    program: pulp.LpProblem
    chosen: dict[tuple[int, int, int], pulp.LpVariable]
    starts: list[pulp.LpVariable]
    ends: list[pulp.LpVariable]
    cost: pulp.LpAffineExpression
    price_per_hour: pulp.LpAffineExpression


def best_by_ilp(problem: CutProblem, segments: Segments, costs: Costs, solver: Solver) -> Plan | None:
    """Find a plan of lowest cost; None if nothing fits."""
    model = _model(problem, segments, costs)
    return _minimize(problem, segments, model, model.cost, solver)


def cheapest_by_ilp(problem: CutProblem, segments: Segments, costs: Costs, solver: Solver) -> Plan | None:
    """Find the cheapest plan of cost at most `max_time_ms`, the fastest of several; None if nothing fits."""
    model = _model(problem, segments, costs)
    if math.isfinite(problem.max_time_ms):
        model.program.addConstraint(model.cost <= problem.max_time_ms * SAME_TIME)
    cheapest = _minimize(problem, segments, model, model.price_per_hour, solver)
    if cheapest is None:
        return None
    model.program.addConstraint(model.price_per_hour <= cheapest.price_per_hour * SAME_TIME)
    return _minimize(problem, segments, model, model.cost, solver)


@dataclass(frozen=True, kw_only=True)
class Moves:
    """The cost of moving to a plan, in ms, beside its time per batch.

    Attributes:
        batches: number of batches, the weight of the time per batch.
        segments: [C, P, P], cost of what a node must receive to run a segment.
        starts, ends: [P], cost of what owners must receive for a first and a last cut.
    """

    batches: int
    segments: Floats
    starts: Floats
    ends: Floats


def best_with_moves(problem: CutProblem, segments: Segments, costs: Costs, moves: Moves, solver: Solver) -> Plan | None:
    """Find a plan with the lowest cost of `batches` batches and of the move to it; None if nothing fits."""
    model = _model(problem, segments, costs)
    moved = pulp.lpSum(moves.segments[key] * variable for key, variable in model.chosen.items())
    kept = pulp.lpDot(list(moves.starts), model.starts) + pulp.lpDot(list(moves.ends), model.ends)
    return _minimize(problem, segments, model, moves.batches * model.cost + moved + kept, solver)


def _model(problem: CutProblem, segments: Segments, costs: Costs) -> _Model:
    keys = [(int(c), int(s), int(e)) for c, s, e in np.argwhere(costs.allowed)]
    program = pulp.LpProblem("cuts", pulp.LpMinimize)
    chosen = {key: program.add_variable("y_{}_{}_{}".format(*key), cat="Binary") for key in keys}
    num_positions = len(segments.real)
    starts = [program.add_variable(f"start_{p}", cat="Binary") for p in range(num_positions)]
    ends = [program.add_variable(f"end_{p}", cat="Binary") for p in range(num_positions)]
    longest = [program.add_variable(name, lowBound=0) for name in ("L_fwd", "L_back")]

    program += pulp.lpSum(starts) == 1
    program += pulp.lpSum(ends) == 1
    program += pulp.lpSum(chosen.values()) >= 1
    for position in range(num_positions):  # flow conservation: every unit runs once
        leaving = pulp.lpSum(chosen[key] for key in keys if key[1] == position)
        arriving = pulp.lpSum(chosen[key] for key in keys if key[2] == position)
        program += arriving + starts[position] == leaving + ends[position]
    for position in range(num_positions - 1):  # (10) and (11)
        across = [key for key in keys if key[1] <= position < key[2]]
        for bound, cost in zip(longest, (costs.first, costs.second), strict=True):
            program += pulp.lpSum(cost[key] * chosen[key] for key in across) <= bound
    prices = []
    for c, nodes in enumerate(segments.classes):
        in_use = pulp.lpSum(chosen[key] for key in keys if key[0] == c)  # (7)
        program += in_use == len(nodes) if problem.use_all_nodes else in_use <= len(nodes)
        prices.append(nodes[0].kind.price_per_hour * in_use)
    _bound_owner(problem, segments, program, starts, ends)
    return _Model(
        program=program,
        chosen=chosen,
        starts=starts,
        ends=ends,
        cost=pulp.lpSum(longest),
        price_per_hour=pulp.lpSum(prices),
    )


def _bound_owner(
    problem: CutProblem,
    segments: Segments,
    program: pulp.LpProblem,
    starts: list[pulp.LpVariable],
    ends: list[pulp.LpVariable],
) -> None:
    if not isinstance(problem.units, FreeOwnerCuts):
        program += starts[0] == 1
        program += ends[-1] == 1
        return
    head = segments.owner_bytes[:, -1]  # with an empty tail
    tail = segments.owner_bytes[0, :] - segments.owner_bytes[0, -1]
    held = pulp.lpDot(list(head / problem.units.memory_bytes), starts)
    held += pulp.lpDot(list(tail / problem.units.memory_bytes), ends)
    program += held <= 1
    for position, start in enumerate(starts):
        if not problem.may_begin_at(segments.offset + position):
            program += start == 0


def _minimize(
    problem: CutProblem,
    segments: Segments,
    model: _Model,
    objective: pulp.LpAffineExpression,
    solver: Solver,
) -> Plan | None:
    model.program.setObjective(objective)
    status = model.program.solve(_SOLVERS[solver]())
    if status == pulp.LpStatusInfeasible:
        return None
    if status != pulp.LpStatusOptimal:
        raise RuntimeError(f"{solver} ended with {pulp.LpStatus[status]!r} on {problem.profile.model}; try solve_dp")
    used = sorted((start, end, c) for (c, start, end), y in model.chosen.items() if y.value() > 0.5)
    positions = [start for start, _, _ in used] + [used[-1][1]]
    return plan_from(problem, segments, positions, [c for _, _, c in used])


def _cbc() -> pulp.LpSolver:
    return pulp.COIN_CMD(path=pulp.PULP_CBC_CMD.pulp_cbc_path, msg=False, gapRel=0, gapAbs=0)  # the CBC inside PuLP


def _highs() -> pulp.LpSolver:
    solver = pulp.getSolver("HiGHS", msg=False, gapRel=0, gapAbs=0)
    if not solver.available():
        raise ValueError("solver 'highs' needs the package highspy: pip install 'raysplit[highs]', or use 'cbc'")
    return solver


_SOLVERS: dict[Solver, Callable[[], pulp.LpSolver]] = {"cbc": _cbc, "highs": _highs}
