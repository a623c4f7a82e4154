"""Both solvers against an exhaustive search, and what must hold for any problem."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest

from raysplit.schedulers.cuts.problem import Objective
from raysplit.schedulers.cuts.profiles import NodeKind, Profile, UnitProfile
from raysplit.schedulers.cuts.solve import (
    ComputeNodeSpec,
    CutProblem,
    FreeOwnerCuts,
    InfeasibleError,
    pareto_front,
    solve_dp,
    solve_ilp,
)
from raysplit.seeding import generator


def random_profile(rng: np.random.Generator, num_units: int) -> Profile:
    units = tuple(
        UnitProfile(
            name=f"unit{i}",
            forward_ms=float(rng.integers(0, 9)),
            backward_ms=float(rng.integers(0, 20)),
            update_ms=float(rng.integers(0, 3)),
            activation_bytes=int(rng.integers(1, 50)),
            parameter_bytes=int(rng.integers(0, 50)),
            sends_inputs=False,
        )
        for i in range(num_units)
    )
    return Profile(model="random", device="none", batch_size=1, units=units)


def random_problem(seed: int, objective: Objective) -> CutProblem:
    """Up to 4 nodes of up to 3 kinds, 7 units; some problems have links, free owner cuts or no solution."""
    rng = generator(seed, "problem", objective)
    profile = random_profile(rng, 8)
    kinds = [
        NodeKind(
            name=f"kind{i}",
            memory_bytes=int(rng.integers(100, 900)),
            slowdown=float(rng.choice([1.0, 1.5, 2.0])),
            price_per_hour=float(rng.integers(1, 5)),
        )
        for i in range(3)
    ]
    rates = [float(rng.integers(2_000, 20_000)), None, None]
    measured = [random_profile(rng, 8), None, None]
    nodes = tuple(
        ComputeNodeSpec(
            name=f"node{i}",
            kind=kinds[rng.integers(3)],
            link_bytes_per_s=rates[rng.integers(3)],
            profile=measured[rng.integers(3)],
        )
        for i in range(rng.integers(1, 5))
    )
    return CutProblem(
        profile=profile,
        owners=int(rng.integers(1, 4)),
        nodes=nodes,
        units=FreeOwnerCuts(memory_bytes=int(rng.integers(60, 400))) if rng.random() < 0.3 else (1, 6),
        objective=objective,
        max_time_ms=float(rng.integers(20, 120)) if objective == "price" else math.inf,
        memory_model="with_gradients_and_optimizer" if rng.random() < 0.3 else "activations_and_parameters",
        use_all_nodes=bool(rng.random() < 0.5),
    )


def exhaustive(problem: CutProblem) -> Iterator[tuple[float, float]]:
    """(time in ms, price) of every placement that fits, worked out unit by unit."""
    units = problem.profile.units
    copies = 3 if problem.memory_model == "with_gradients_and_optimizer" else 1
    replica = [unit.activation_bytes + copies * unit.parameter_bytes for unit in units]
    if isinstance(problem.units, FreeOwnerCuts):
        bounds = [
            (first, end)
            for first in range(1, 9)
            for end in range(first + 1, 9)
            if sum(replica[:first]) + sum(replica[end:]) <= problem.units.memory_bytes
        ]
    else:
        bounds = [(problem.units[0], problem.units[1] + 1)]
    counts = [len(problem.nodes)] if problem.use_all_nodes else range(1, len(problem.nodes) + 1)
    for count in counts:
        for nodes in permutations(problem.nodes, count):
            for first, end in bounds:
                for inner in combinations(range(first + 1, end), count - 1):
                    forward, backward, stage, fits = [], [], [], True
                    for node, lo, hi in zip(nodes, (first, *inner), (*inner, end), strict=True):
                        timed = units if node.profile is None else node.profile.units
                        factor = node.kind.slowdown if node.profile is None else 1.0
                        f = factor * sum(timed[j].forward_ms for j in range(lo, hi))
                        g = factor * sum(timed[j].backward_ms + timed[j].update_ms for j in range(lo, hi))
                        rate = node.link_bytes_per_s or math.inf
                        entering, leaving = (1e3 * units[j - 1].activation_bytes / rate for j in (lo, hi))
                        forward.append(max(f, entering, leaving))
                        backward.append(max(g, entering, leaving))
                        stage.append(max(f + g, entering + leaving))
                        fits = fits and problem.owners * sum(replica[lo:hi]) <= node.kind.memory_bytes
                    if fits:
                        price = sum(node.kind.price_per_hour for node in nodes)
                        yield (max(stage) if problem.objective == "bottleneck" else max(forward) + max(backward)), price


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("objective", ["sum_of_max", "bottleneck", "price"])
def test_highs_finds_what_cbc_finds(seed: int, objective: Objective) -> None:
    """Nodes that differ, links, free owner cuts, nodes left unused, and problems without a solution."""
    pytest.importorskip("highspy")
    problem = random_problem(seed, objective)
    try:
        by_cbc = solve_ilp(problem, "cbc")
    except InfeasibleError:
        with pytest.raises(InfeasibleError, match=r"lacks|longer|time"):
            solve_ilp(problem, "highs")
        return
    by_highs = solve_ilp(problem, "highs")
    assert by_highs.objective_ms == pytest.approx(by_cbc.objective_ms, rel=1e-9)
    assert by_highs.price_per_hour == pytest.approx(by_cbc.price_per_hour, rel=1e-9)
    assert by_highs.fits


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("objective", ["sum_of_max", "bottleneck"])
def test_both_solvers_find_the_fastest_plan(seed: int, objective: Objective) -> None:
    problem = random_problem(seed, objective)
    times = [time_ms for time_ms, _ in exhaustive(problem)]
    if not times:
        for solve in (solve_dp, solve_ilp):
            with pytest.raises(InfeasibleError, match="lacks"):
                solve(problem)
        return
    for solve in (solve_dp, solve_ilp):
        plan = solve(problem)
        assert plan.objective_ms == pytest.approx(min(times), rel=1e-9)
        assert plan.fits


@pytest.mark.parametrize("seed", range(25))
def test_both_solvers_find_the_cheapest_plan_in_time(seed: int) -> None:
    problem = random_problem(seed, "price")
    in_time = [(price, time_ms) for time_ms, price in exhaustive(problem) if time_ms <= problem.max_time_ms]
    if not in_time:
        for solve in (solve_dp, solve_ilp):
            with pytest.raises(InfeasibleError, match=r"lacks|more than max_time_ms"):
                solve(problem)
        return
    for solve in (solve_dp, solve_ilp):
        plan = solve(problem)
        assert (plan.price_per_hour, plan.objective_ms) == pytest.approx(min(in_time), rel=1e-9)


@pytest.mark.parametrize("seed", range(12))
def test_the_front_is_the_exhaustive_front(seed: int) -> None:
    problem = replace(random_problem(seed, "sum_of_max"), use_all_nodes=False)
    every = sorted(exhaustive(problem))
    front = [point for i, point in enumerate(every) if all(point[1] < other[1] for other in every[:i])]
    if not front:
        with pytest.raises(InfeasibleError):
            pareto_front(problem)
        return
    plans = pareto_front(problem)
    assert [plan.objective_ms for plan in plans] == pytest.approx([time_ms for time_ms, _ in front])
    assert [plan.price_per_hour for plan in plans] == pytest.approx([price for _, price in front])


def equal_nodes(count: int, memory_bytes: int = 10**9) -> tuple[ComputeNodeSpec, ...]:
    kind = NodeKind(name="vm", memory_bytes=memory_bytes)
    return tuple(ComputeNodeSpec(name=f"vm-{i}", kind=kind) for i in range(count))


@pytest.mark.parametrize("seed", range(10))
def test_more_equal_nodes_and_more_memory_never_hurt(seed: int) -> None:
    profile = random_profile(generator(seed, "profile"), 12)
    units = profile.units[1:11]
    by_nodes = []
    for count in range(1, 7):
        plan = solve_dp(CutProblem(profile=profile, owners=1, nodes=equal_nodes(count), units=(1, 10)))
        by_nodes.append(plan.objective_ms)
        total_ms = sum(unit.forward_ms + unit.backward_ms + unit.update_ms for unit in units)
        assert plan.objective_ms >= total_ms / count - 1e-9
        assert plan.bottleneck_ms <= plan.objective_ms
    assert by_nodes == sorted(by_nodes, reverse=True)
    whole = sum(unit.activation_bytes + unit.parameter_bytes for unit in units)
    by_memory = [
        solve_dp(
            CutProblem(profile=profile, owners=1, nodes=equal_nodes(3, memory_bytes=bytes_), units=(1, 10))
        ).objective_ms
        for bytes_ in (2 * whole // 3, 3 * whole // 4, whole)
    ]
    assert by_memory == sorted(by_memory, reverse=True)


def test_many_nodes_that_all_differ() -> None:
    """Twelve speeds make 4096 sets of nodes; both solvers agree."""
    profile = random_profile(generator(0, "profile"), 20)
    nodes = tuple(
        ComputeNodeSpec(name=f"vm-{i}", kind=NodeKind(name=f"kind-{i}", memory_bytes=10**9, slowdown=1 + i / 7))
        for i in range(10)
    )
    problem = CutProblem(profile=profile, owners=1, nodes=nodes, units=(1, 19))
    assert solve_dp(problem).objective_ms == pytest.approx(solve_ilp(problem).objective_ms)
