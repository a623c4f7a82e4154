"""Moving parts when compute nodes come or leave: drawn cases, an exhaustive search, and hysteresis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest

from raysplit.schedulers.cuts.profiles import NodeKind, Profile, UnitProfile
from raysplit.schedulers.cuts.replan import MovingCost, replan
from raysplit.schedulers.cuts.solve import ComputeNodeSpec, CutProblem, FreeOwnerCuts, InfeasibleError
from raysplit.seeding import generator

FREE = MovingCost(bandwidth_bytes_per_s=math.inf, min_gain=0.0)


def unit(forward_ms: float = 4.0, parameter_bytes: int = 1000) -> UnitProfile:
    return UnitProfile(
        name="u",
        forward_ms=forward_ms,
        backward_ms=forward_ms,
        update_ms=0.0,
        activation_bytes=10,
        parameter_bytes=parameter_bytes,
        sends_inputs=False,
    )


def problem(*names: str, units: int = 6, memory_bytes: int = 10**6) -> CutProblem:
    """Equal units on equal nodes: every part of k units takes 4 k ms forward and as long back."""
    kind = NodeKind(name="box", memory_bytes=memory_bytes)
    return CutProblem(
        profile=Profile(model="chain", device="none", batch_size=1, units=tuple(unit() for _ in range(units + 2))),
        owners=10,
        nodes=tuple(ComputeNodeSpec(name=name, kind=kind) for name in names),
        units=(1, units),
        batches_per_owner=5,
    )


def test_a_node_that_comes_takes_its_share_when_enough_is_left() -> None:
    """Six units on two nodes: 12 + 12 ms a batch; on three: 8 + 8. 50 batches a round.

    20 rounds: 24 s as it is, 16 s on three nodes. Two of six units (2,000 bytes) go to the third node, or more, which
    saves nothing: 1 s of pause and 2 s of link leave 19 s.
    """
    moving = MovingCost(bandwidth_bytes_per_s=1000.0, pause_ms=1000.0, min_gain=0.05)
    found = replan(problem("a", "b", "c"), (1, 4, 7), ("a", "b"), rounds_left=20, moving=moving)
    assert found.is_move
    assert (found.left_ms, found.moved_ms, found.moving_ms, found.moving_bytes) == (24_000, 19_000, 3000, 2000)
    assert found.plan.cuts == (1, 3, 5, 7)
    assert set(found.plan.nodes) == {"a", "b", "c"}
    assert found.plan.nodes.index("a") == 0
    assert found.plan.nodes[-1] == "b"
    assert str(found) == (
        "move to cuts [1, 3, 5, 7] on a, c, b: 24 s left as it is, 19 s with a move of 0.00191 MiB in 3 s, "
        "a gain of 20.8%"
    )


def test_near_the_end_it_stays() -> None:
    """5 rounds: 6 s as it is; the move alone takes 3 of the 2 that it would save."""
    moving = MovingCost(bandwidth_bytes_per_s=1000.0, pause_ms=1000.0, min_gain=0.0)
    found = replan(problem("a", "b", "c"), (1, 4, 7), ("a", "b"), rounds_left=5, moving=moving)
    assert not found.is_move
    assert found.plan.nodes == ("a", "b")
    assert found.left_ms == 6000


@pytest.mark.parametrize(("min_gain", "is_move"), [(0.20, True), (0.21, False)])
def test_hysteresis(min_gain: float, is_move: bool) -> None:
    """The gain is 5 of 24 s, 20.8 %."""
    moving = MovingCost(bandwidth_bytes_per_s=1000.0, pause_ms=1000.0, min_gain=min_gain)
    found = replan(problem("a", "b", "c"), (1, 4, 7), ("a", "b"), rounds_left=20, moving=moving)
    assert found.is_move == is_move
    assert str(found).startswith("move to cuts [1, 3, 5, 7]" if is_move else "keep cuts [1, 4, 7] on a, b: 24 s left")


def test_a_node_that_leaves_forces_a_move_of_its_units_alone() -> None:
    """Whatever is left, and whatever the hysteresis."""
    moving = MovingCost(bandwidth_bytes_per_s=1000.0, min_gain=0.9)
    found = replan(problem("a", "c"), (1, 3, 5, 7), ("a", "b", "c"), rounds_left=1, moving=moving)
    assert found.is_move
    assert found.left_ms == math.inf
    assert found.plan.nodes == ("a", "c")
    assert found.plan.cuts == (1, 4, 7)
    assert found.moving_bytes == 2000
    assert str(found).startswith("the plan in place cannot continue; move to cuts [1, 4, 7] on a, c: a move of")


def test_a_plan_that_is_best_stays_and_costs_nothing() -> None:
    moving = MovingCost(bandwidth_bytes_per_s=1000.0, pause_ms=1000.0, min_gain=0.0)
    found = replan(problem("a", "b"), (1, 4, 7), ("b", "a"), rounds_left=3, moving=moving)
    assert (found.is_move, found.moving_bytes, found.moving_ms) == (False, 0, 0.0)
    assert found.left_ms == found.moved_ms == 3600


def test_no_plan_for_those_who_are_left() -> None:
    tight = problem("a", memory_bytes=10 * 1010 * 3)  # three units of ten replicas
    with pytest.raises(InfeasibleError, match="no plan fits the compute nodes a"):
        replan(tight, (1, 4, 7), ("a", "b"), rounds_left=3, moving=FREE)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="bandwidth_bytes_per_s must be above 0"):
        MovingCost(bandwidth_bytes_per_s=0.0)


# -- exhaustive ------------------------------------------------------------------------------------------------------


Placement = tuple[tuple[int, ...], tuple[str, ...]]


def random_case(seed: int) -> tuple[CutProblem, tuple[int, ...], tuple[str, ...], int]:
    rng = generator(seed, "replan")
    units = tuple(
        UnitProfile(
            name=f"u{i}",
            forward_ms=float(rng.integers(1, 9)),
            backward_ms=float(rng.integers(1, 20)),
            update_ms=0.0,
            activation_bytes=int(rng.integers(1, 50)),
            parameter_bytes=int(rng.integers(0, 900)),
            sends_inputs=False,
        )
        for i in range(7)
    )
    kinds = [
        NodeKind(name=f"k{i}", memory_bytes=int(rng.integers(1500, 6000)), slowdown=float(rng.choice([1.0, 2.0])))
        for i in range(2)
    ]
    nodes = tuple(ComputeNodeSpec(name=f"n{i}", kind=kinds[rng.integers(2)]) for i in range(3))
    found = CutProblem(
        profile=Profile(model="random", device="none", batch_size=1, units=units),
        owners=2,
        nodes=nodes,
        units=FreeOwnerCuts(memory_bytes=int(rng.integers(1000, 4000))) if rng.random() < 0.5 else (1, 5),
        batches_per_owner=2,
        use_all_nodes=False,
    )
    present = ("n0", "gone") if rng.random() < 0.5 else ("n0", "n1")
    return found, (1, int(rng.integers(2, 6)), 6), present, int(rng.integers(1, 20))


def plans(case: CutProblem) -> Iterator[tuple[tuple[int, ...], tuple[str, ...]]]:
    low, high = case.boundaries
    names = [node.name for node in case.nodes]
    for count in range(1, 4):
        for order in permutations(names, count):
            for cuts in combinations(range(low, high + 1), count + 1):
                if isinstance(case.units, FreeOwnerCuts) or (cuts[0], cuts[-1]) == (low, high):
                    yield cuts, order


def holder(at: int, cuts: tuple[int, ...], nodes: tuple[str, ...]) -> str:
    inside = [name for name, start, end in zip(nodes, cuts, cuts[1:], strict=False) if start <= at < end]
    return inside[0] if inside else "owner"


def cost(case: CutProblem, cuts: tuple[int, ...], nodes: tuple[str, ...], before: Placement, rounds: int) -> float:
    """Time that is left in ms, worked out unit by unit; infinite where something does not fit. 1 byte takes 1 ms."""
    units, of = case.profile.units, {node.name: node for node in case.nodes}
    forward, backward = [], []
    for name, start, end in zip(nodes, cuts, cuts[1:], strict=False):
        part, kind = units[start:end], of[name].kind
        forward.append(kind.slowdown * sum(u.forward_ms for u in part))
        backward.append(kind.slowdown * sum(u.backward_ms for u in part))
        if case.owners * sum(u.activation_bytes + u.parameter_bytes for u in part) > kind.memory_bytes:
            return math.inf
    own = [u for i, u in enumerate(units) if holder(i, cuts, nodes) == "owner"]
    own_bytes = sum(u.activation_bytes + u.parameter_bytes for u in own)
    if isinstance(case.units, FreeOwnerCuts) and own_bytes > case.units.memory_bytes:
        return math.inf
    moved = sum(u.parameter_bytes for i, u in enumerate(units) if holder(i, cuts, nodes) != holder(i, *before))
    return rounds * 4 * (max(forward) + max(backward)) + moved


@pytest.mark.parametrize("seed", range(25))
def test_the_move_is_the_best_of_all(seed: int) -> None:
    case, cuts, nodes, rounds = random_case(seed)
    best = min(cost(case, *plan, (cuts, nodes), rounds) for plan in plans(case))
    moving = MovingCost(bandwidth_bytes_per_s=1000.0, min_gain=0.0)
    if best == math.inf:
        with pytest.raises(InfeasibleError):
            replan(case, cuts, nodes, rounds_left=rounds, moving=moving)
        return
    found = replan(case, cuts, nodes, rounds_left=rounds, moving=moving)
    assert found.moved_ms == pytest.approx(best)
    if "gone" not in nodes:
        assert found.left_ms == pytest.approx(cost(case, cuts, nodes, (cuts, nodes), rounds))
    assert found.is_move == (best < found.left_ms * (1 - 1e-12))


def test_with_nothing_to_move_it_is_the_planner_of_a_new_run() -> None:
    """Weights that weigh nothing: the moving cost vanishes from the objective."""
    from raysplit.schedulers.cuts.solve import solve_dp

    for seed in range(8):
        case, cuts, nodes, rounds = random_case(seed)
        light = tuple(replace(u, parameter_bytes=0) for u in case.profile.units)
        case = replace(case, profile=replace(case.profile, units=light))
        try:
            expected = solve_dp(case).objective_ms
        except InfeasibleError:
            continue
        found = replan(case, cuts, nodes, rounds_left=rounds, moving=FREE)
        assert np.isclose(found.moved_ms, rounds * 4 * expected)
