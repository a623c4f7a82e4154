"""Published optima of MP-SL (arXiv 2402.00208) and of its authors' solver log, for both solvers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raysplit.schedulers.cuts.plan import Plan
from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB, NodeKind, Profile, UnitProfile, load_profile
from raysplit.schedulers.cuts.solve import ComputeNodeSpec, CutProblem, pareto_front, plan_for, solve_dp, solve_ilp

Solve = Callable[[CutProblem], Plan]
both_solvers = pytest.mark.parametrize("solve", [solve_ilp, solve_dp])


def offered(*kinds: tuple[float, float]) -> tuple[ComputeNodeSpec, ...]:
    """Nodes vm-1, vm-2, ... of (memory GiB, slowdown)."""
    return tuple(
        ComputeNodeSpec(
            name=f"vm-{index}",
            kind=NodeKind(name=f"{gib}x{slowdown}", memory_bytes=int(gib * BYTES_PER_GIB), slowdown=slowdown),
        )
        for index, (gib, slowdown) in enumerate(kinds, start=1)
    )


RESNET, VGG = "resnet101_mpsl_vm", "vgg19_mpsl_vm"
UNBOUNDED = (10_000.0, 1.0)
EQUAL_NODES = [  # profile, units, (optimum ms for 1, 2, 3, 4, 5 nodes)
    (RESNET, (2, 35), (1984.54, 1036.92, 711.46, 560.85, 438.46)),
    (VGG, (2, 24), (3789.75, 2013.59, 1330.30, 1024.68, 880.52)),
    (VGG, (1, 23), (3979.34, 2024.97, 1411.17, 1024.68, 880.28)),
    (VGG, (3, 21), (3186.50, 1751.02, 1107.66, 983.18, 747.48)),
]


@both_solvers
@pytest.mark.parametrize(
    ("profile", "units", "num_nodes", "optimum_ms"),
    [(profile, units, n, ms) for profile, units, row in EQUAL_NODES for n, ms in enumerate(row, start=1)],
)
def test_published_optima_of_equal_nodes(
    solve: Solve, profile: str, units: tuple[int, int], num_nodes: int, optimum_ms: float
) -> None:
    plan = solve(
        CutProblem(profile=load_profile(profile), owners=1, nodes=offered(*[UNBOUNDED] * num_nodes), units=units)
    )
    assert plan.objective_ms == pytest.approx(optimum_ms, rel=1e-3)
    assert plan.objective_ms == pytest.approx(plan.l_fwd_ms + plan.l_bwd_ms)
    assert (plan.cuts[0], plan.cuts[-1]) == (units[0], units[1] + 1)


@pytest.mark.parametrize(
    ("profile", "units", "num_nodes", "optimum_ms"),
    [(profile, units, n, row[n - 1]) for profile, units, row in EQUAL_NODES for n in (2, 5)],
)
def test_highs_finds_what_cbc_finds(profile: str, units: tuple[int, int], num_nodes: int, optimum_ms: float) -> None:
    pytest.importorskip("highspy")
    problem = CutProblem(profile=load_profile(profile), owners=1, nodes=offered(*[UNBOUNDED] * num_nodes), units=units)
    by_highs, by_cbc = solve_ilp(problem, "highs"), solve_ilp(problem, "cbc")
    assert by_highs.objective_ms == pytest.approx(optimum_ms, rel=1e-3)
    assert by_highs.objective_ms == pytest.approx(by_cbc.objective_ms, rel=1e-9)


@pytest.mark.parametrize(
    ("profile", "cuts", "l_fwd_ms", "l_bwd_ms"),
    [
        (RESNET, (2, 25, 36), 189.38, 847.54),
        (RESNET, (2, 18, 31, 36), 127.46, 584.00),
        (RESNET, (2, 16, 26, 33, 36), 110.00, 450.85),
        (RESNET, (2, 12, 20, 28, 33, 36), 74.85, 363.62),
        (VGG, (2, 13, 25), 414.86, 1598.73),
        (VGG, (2, 11, 17, 25), 282.35, 1047.96),
        (VGG, (2, 8, 13, 18, 25), 215.17, 809.50),
        (VGG, (2, 8, 12, 14, 19, 25), 180.28, 700.24),
    ],
)
def test_published_latencies_of_given_cuts(
    profile: str, cuts: tuple[int, ...], l_fwd_ms: float, l_bwd_ms: float
) -> None:
    nodes = offered(*[UNBOUNDED] * (len(cuts) - 1))
    problem = CutProblem(profile=load_profile(profile), owners=1, nodes=nodes, units=(cuts[0], cuts[-1] - 1))
    plan = plan_for(problem, cuts, [node.name for node in nodes])
    assert plan.l_fwd_ms == pytest.approx(l_fwd_ms, rel=1e-3)
    assert plan.l_bwd_ms == pytest.approx(l_bwd_ms, rel=1e-3)


SOLVER_LOG = [  # memory GiB, slowdown, optimum ms, 32 * (K - 1) * optimum in minutes; VGG-19 units 3 to 21, 150 owners
    ((16, 16, 16, 16, 16), (1, 1, 1, 1, 1), 747.48195, 59.3999),
    ((16, 16, 16, 8, 8), (1, 1, 1, 2, 2), 907.5506, 72.1200),
    ((16, 16, 8, 8, 8), (1, 1, 2, 2, 2), 988.10246, 78.5212),
    ((8, 8, 8, 8, 8), (2, 2, 2, 2, 2), 1649.75708, 131.1007),
    ((16, 16, 16, 16, 4), (1, 1, 1, 1, 2), 779.80711, 61.9687),
    ((4, 8, 8, 8, 8), (2, 2, 2, 2, 2), 1670.90738, 132.7814),
    ((4, 8, 8, 8, 16), (2, 2, 2, 2, 1), 1176.28995, 93.4758),
    ((4, 8, 16, 16, 16), (2, 2, 1, 1, 1), 907.5506, 72.1200),
    ((32, 16, 8), (1, 2, 4), 1916.50, 152.3),
]


@both_solvers
@pytest.mark.parametrize(("gib", "slowdown", "optimum_ms", "minutes"), SOLVER_LOG)
def test_published_optima_of_unequal_nodes_with_memory(
    solve: Solve, gib: tuple[float, ...], slowdown: tuple[float, ...], optimum_ms: float, minutes: float
) -> None:
    nodes = offered(*zip(gib, slowdown, strict=True))
    plan = solve(CutProblem(profile=load_profile(VGG), owners=150, nodes=nodes, units=(3, 21)))
    assert plan.objective_ms == pytest.approx(optimum_ms, rel=1e-5)
    assert 32 * 149 * plan.objective_ms / 60_000 == pytest.approx(minutes, rel=1e-3)
    assert plan.fits
    assert sorted(plan.nodes) == [node.name for node in nodes]


@both_solvers
def test_resnet_on_three_unequal_nodes(solve: Solve) -> None:
    nodes = offered((32, 1), (16, 2), (8, 4))
    plan = solve(CutProblem(profile=load_profile(RESNET), owners=150, nodes=nodes, units=(2, 35)))
    assert plan.objective_ms == pytest.approx(1224.77, rel=1e-5)


@both_solvers
def test_the_true_rate_is_another_objective(solve: Solve) -> None:
    nodes = offered(*[UNBOUNDED] * 3)
    problem = CutProblem(profile=load_profile(RESNET), owners=1, nodes=nodes, units=(2, 35), objective="bottleneck")
    assert solve(problem).objective_ms == pytest.approx(672.9, rel=1e-3)
    paper = plan_for(problem, (2, 18, 31, 36), ["vm-1", "vm-2", "vm-3"])
    assert paper.bottleneck_ms == pytest.approx(702.2, rel=1e-3)


def test_epoch_minutes_of_the_optima() -> None:
    """The core term 32 K (L_fwd + L_back); the paper's bars lie at most 1.3 min (ResNet) and 2.6 min (VGG) above it."""
    published = {  # minutes for 3, 4 and 5 nodes: core term, bar
        (RESNET, 100): ((37.94, 39.0), (29.91, 31.1), (23.38, 24.5)),
        (RESNET, 150): ((56.92, 58.0), (44.87, 46.1), (35.08, 36.3)),
        (VGG, 100): ((75.26, 77.5), (54.65, 57.0), (46.95, 49.3)),
        (VGG, 150): ((112.89, 115.4), (81.97, 84.4), (70.42, 72.9)),
    }
    for (profile, owners), row in published.items():
        units, slack_min = ((2, 35), 1.3) if profile == RESNET else ((1, 23), 2.6)
        for num_nodes, (core_min, bar_min) in zip((3, 4, 5), row, strict=True):
            nodes = offered(*[UNBOUNDED] * num_nodes)
            plan = solve_dp(CutProblem(profile=load_profile(profile), owners=owners, nodes=nodes, units=units))
            assert plan.round_ms / 60_000 == pytest.approx(core_min, abs=0.005)
            assert 0 < bar_min - plan.round_ms / 60_000 < slack_min


@pytest.mark.parametrize(("num_nodes", "saved"), [(2, 0.49), (3, 0.65), (4, 0.73), (5, 0.78)])
def test_memory_of_the_largest_part_falls(num_nodes: int, saved: float) -> None:
    nodes = offered(*[UNBOUNDED] * num_nodes)
    cuts = {2: (2, 25, 36), 3: (2, 18, 31, 36), 4: (2, 16, 26, 33, 36), 5: (2, 12, 20, 28, 33, 36)}[num_nodes]
    problem = CutProblem(profile=load_profile(RESNET), owners=1, nodes=nodes, units=(2, 35))
    plan = plan_for(problem, cuts, [node.name for node in nodes])
    one_hop_bytes = 185.9 * 2**20
    assert 1 - max(share.memory_bytes for share in plan.shares) / one_hop_bytes == pytest.approx(saved, abs=0.01)


def test_a_plan_prints_itself() -> None:
    """Six equal units on a fast and a slow machine: the fast one takes four of them."""
    unit = UnitProfile(
        name="unit",
        forward_ms=2,
        backward_ms=3,
        update_ms=1,
        activation_bytes=BYTES_PER_GIB // 8,
        parameter_bytes=BYTES_PER_GIB // 8,
    )
    chain = Profile(model="chain", device="vm", batch_size=1, units=(unit,) * 8)
    problem = CutProblem(profile=chain, owners=2, nodes=offered((8, 1), (4, 2)), units=(1, 6), batches_per_owner=5000)
    assert str(plan_for(problem, (1, 5, 7), ["vm-1", "vm-2"])).splitlines() == [
        "chain for 2 owners, cuts [1, 5, 7]",
        "node  units  forward ms  backward ms  memory GiB  of GiB",
        "vm-1  1-4          8.00        16.00        2.00    8.00",
        "vm-2  5-6          8.00        16.00        1.00    4.00",
        "each owner holds 0.50 GiB",
        "L_fwd 8.00 + L_back 16.00 = 24.00 ms per batch, busiest node 24.00 ms, round 4.00 min",
    ]
    for solve in (solve_dp, solve_ilp):
        plan = solve(problem)
        assert plan.objective_ms == 24.0
        assert {share.node: share.last_unit - share.first_unit + 1 for share in plan.shares} == {"vm-1": 4, "vm-2": 2}


def test_the_front_trades_time_for_price() -> None:
    """Four machines of price 2 or 1: the fastest plan takes all, the cheapest those two whose memory suffices."""
    kinds = [NodeKind(name="big", memory_bytes=16 * BYTES_PER_GIB, price_per_hour=2.0)] * 2
    kinds += [NodeKind(name="small", memory_bytes=8 * BYTES_PER_GIB, slowdown=2, price_per_hour=1.0)] * 2
    problem = CutProblem(
        profile=load_profile(VGG),
        owners=150,
        nodes=tuple(ComputeNodeSpec(name=f"vm-{i}", kind=kind) for i, kind in enumerate(kinds, start=1)),
        units=(3, 21),
        use_all_nodes=False,
    )
    plans = pareto_front(problem)
    assert [plan.price_per_hour for plan in plans] == [6.0, 5.0, 4.0]
    assert [plan.objective_ms for plan in plans] == pytest.approx([1107.66, 1330.30, 1751.02], rel=1e-5)
    assert plans[-1].unused == ("vm-3", "vm-4")
