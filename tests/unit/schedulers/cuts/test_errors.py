"""What a planner says to a problem that has no answer, or that is none."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB, NodeKind, Profile, UnitProfile, load_profile
from raysplit.schedulers.cuts.solve import (
    ComputeNodeSpec,
    CutProblem,
    FreeOwnerCuts,
    InfeasibleError,
    plan_for,
    solve_dp,
    solve_ilp,
)


def chain(num_units: int, gib_per_unit: float) -> Profile:
    """Units of 2 ms forward, 3 ms backward, 1 ms update."""
    unit = UnitProfile(
        name="unit",
        forward_ms=2,
        backward_ms=3,
        update_ms=1,
        activation_bytes=int(gib_per_unit * BYTES_PER_GIB / 2),
        parameter_bytes=int(gib_per_unit * BYTES_PER_GIB / 2),
    )
    return Profile(model="chain", device="none", batch_size=1, units=(unit,) * num_units)


def node(name: str, gib: float = 8, **more: float) -> ComputeNodeSpec:
    return ComputeNodeSpec(name=name, kind=NodeKind(name="kind", memory_bytes=int(gib * BYTES_PER_GIB)), **more)


PROBLEM = CutProblem(profile=chain(10, 0.25), owners=4, nodes=(node("vm-1"), node("vm-2"), node("vm-3")), units=(1, 9))


@pytest.mark.parametrize("solve", [solve_dp, solve_ilp])
def test_memory_that_is_short_names_node_amount_and_units(solve) -> None:  # type: ignore[no-untyped-def]
    """Nine units of 1 GiB for 4 owners on nodes of 4, 3 and 1.5 GiB: somebody is short of at least half a GiB."""
    problem = replace(PROBLEM, nodes=(node("vm-1", 4), node("vm-2", 3), node("vm-3", 1.5)))
    with pytest.raises(InfeasibleError, match=r"node vm-3 lacks 0.50 GiB for 4 replicas of units \d-\d"):
        solve(problem)


@pytest.mark.parametrize("solve", [solve_dp, solve_ilp])
def test_an_owner_too_small_for_unit_0(solve) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InfeasibleError, match=r"the data owner lacks 0.15 GiB for unit 0"):
        solve(replace(PROBLEM, units=FreeOwnerCuts(memory_bytes=BYTES_PER_GIB // 10)))


@pytest.mark.parametrize("solve", [solve_dp, solve_ilp])
def test_a_time_bound_too_tight(solve) -> None:  # type: ignore[no-untyped-def]
    """Three units of 6 ms each on every node take 18 ms."""
    with pytest.raises(
        InfeasibleError, match=r"fastest plan takes 18.00 ms per batch, 3.00 ms more than max_time_ms 15"
    ):
        solve(replace(PROBLEM, objective="price", max_time_ms=15))


@pytest.mark.parametrize("solve", [solve_dp, solve_ilp])
def test_a_node_may_stay_unused_only_when_allowed(solve) -> None:  # type: ignore[no-untyped-def]
    tiny = (node("vm-1", 16), node("vm-2", 0.5))
    with pytest.raises(InfeasibleError, match=r"node vm-2 lacks 0\.50 GiB for 4 replicas of units"):
        solve(replace(PROBLEM, nodes=tiny))
    assert solve(replace(PROBLEM, nodes=tiny, use_all_nodes=False)).unused == ("vm-2",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nodes": ()}, "no compute nodes"),
        ({"nodes": (node("vm-1"), node("vm-1"))}, "two compute nodes are called 'vm-1'"),
        ({"units": (8, 9)}, "3 compute nodes for the 2 units 8-9: .* offer fewer nodes"),
        ({"units": (0, 9)}, "the first must be at least 1"),
        ({"units": (1, 10)}, "the last at most 9"),
        ({"units": (5, 4)}, "units 5-4"),
        ({"owners": 0}, "at least one of both"),
        ({"max_time_ms": 9.0}, "bounds the objective 'price', not 'sum_of_max'"),
    ],
)
def test_bad_problems(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PROBLEM, **change)  # type: ignore[arg-type]


def test_bad_nodes() -> None:
    with pytest.raises(ValueError, match=r"node 'vm-1' has a link of 0\.0 bytes/s; give it more than 0"):
        node("vm-1", link_bytes_per_s=0.0)
    with pytest.raises(ValueError, match="has 0 bytes of memory"):
        node("vm-1", gib=0)
    with pytest.raises(ValueError, match="slowdown nan"):
        NodeKind(name="vm", memory_bytes=1, slowdown=math.nan)
    other = ComputeNodeSpec(name="pi", kind=NodeKind(name="d1", memory_bytes=1), profile=load_profile("vgg19_mpsl_d1"))
    with pytest.raises(ValueError, match="the profile of node 'pi' has 25 units, chain has 10; measure"):
        replace(PROBLEM, nodes=(other,))


def test_cuts_that_do_not_match_the_nodes() -> None:
    with pytest.raises(ValueError, match=r"3 compute nodes need 4 cuts, got \(1, 4, 10\)"):
        plan_for(PROBLEM, (1, 4, 10), ["vm-1", "vm-2", "vm-3"])
    with pytest.raises(ValueError, match=r"must rise, from at least 1 to at most 10"):
        plan_for(PROBLEM, (1, 7, 4, 10), ["vm-1", "vm-2", "vm-3"])
    with pytest.raises(ValueError, match="no compute node 'vm-9' is on offer; give some of vm-1, vm-2, vm-3"):
        plan_for(PROBLEM, (1, 4, 10), ["vm-1", "vm-9"])


def test_too_many_different_nodes_for_the_dynamic_programme() -> None:
    nodes = tuple(
        ComputeNodeSpec(name=f"vm-{i}", kind=NodeKind(name="vm", memory_bytes=BYTES_PER_GIB + i)) for i in range(20)
    )
    with pytest.raises(ValueError, match=r"20 nodes of 20 classes make 1048576 sets.*use solve_ilp"):
        solve_dp(CutProblem(profile=chain(30, 0.1), owners=1, nodes=nodes, units=(1, 29)))


def test_a_solver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pulp.HiGHS.available", lambda self: False)
    with pytest.raises(ValueError, match=r"needs the package highspy: pip install 'raysplit\[highs\]', or use 'cbc'"):
        solve_ilp(PROBLEM, "highs")
