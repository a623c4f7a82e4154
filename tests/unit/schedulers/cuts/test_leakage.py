"""Plans within a limit of leakage equal the best of all plans with an allowed first cut."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from raysplit.schedulers.cuts.leakage import limited, trade_offs
from raysplit.schedulers.cuts.plan import plan_for
from raysplit.schedulers.cuts.problem import ComputeNodeSpec, CutProblem, FreeOwnerCuts, InfeasibleError
from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB, NodeKind, Profile, UnitProfile, load_profile
from raysplit.schedulers.cuts.solve import solve_dp, solve_ilp, with_owner_time

LEAKS = (0.9, 0.3, 0.6, 0.1, 0.2)  # the third cut tells more than the second: the measure need not fall


def profile(leaks: tuple[float | None, ...] = LEAKS) -> Profile:
    return Profile(
        model="chain",
        device="cpu",
        batch_size=1,
        units=tuple(
            UnitProfile(
                name=f"unit{i}",
                forward_ms=1.0 + i % 3,
                backward_ms=2.0 - i % 2,
                update_ms=0.0,
                activation_bytes=BYTES_PER_GIB // 4,
                parameter_bytes=BYTES_PER_GIB // 8,
                leak_fisher=leak,
            )
            for i, leak in enumerate((*leaks, None))
        ),
    )


def problem(**changes: object) -> CutProblem:
    nodes = tuple(
        ComputeNodeSpec(name=name, kind=NodeKind(name=name, memory_bytes=4 * BYTES_PER_GIB, price_per_hour=price))
        for name, price in (("a", 1.0), ("b", 3.0))
    )
    given = {"profile": profile(), "owners": 2, "nodes": nodes, "units": FreeOwnerCuts(memory_bytes=9 * BYTES_PER_GIB)}
    return CutProblem(**{**given, **changes})  # type: ignore[arg-type]


def best_ms(question: CutProblem, allowed: set[int]) -> float:
    """The best of all plans that begin at an allowed cut, each tried."""
    names = [node.name for node in question.nodes]
    ends = range(1, len(question.profile.units) + 1)
    found = [
        plan_for(question, cuts, order).objective_ms
        for cuts in itertools.combinations(ends, 3)
        if cuts[0] in allowed
        for order in itertools.permutations(names)
    ]
    return min(found)


@pytest.mark.parametrize("limit", [0.1, 0.2, 0.3, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("solve", [solve_dp, solve_ilp])
def test_a_limited_plan_is_the_best_with_an_allowed_first_cut(solve, limit: float) -> None:
    allowed = {cut for cut, leak in enumerate(LEAKS, start=1) if leak <= limit}
    if allowed == {4}:
        # one unit alone is left for two nodes behind cut 4
        question = problem(use_all_nodes=False)
        assert solve(limited(question, limit)).cuts[0] == 4
        return
    found = solve(limited(problem(), limit))
    assert found.cuts[0] in allowed
    assert found.objective_ms == pytest.approx(best_ms(problem(), allowed))


def test_a_limit_of_one_changes_nothing() -> None:
    assert solve_dp(limited(problem(), 1.0)) == solve_dp(problem())


def test_a_limit_below_the_least_names_that_cut() -> None:
    with pytest.raises(InfeasibleError, match=r"--max-leak is 0.05.*least leaky first cut 4 \(after unit3\) has 0.1"):
        limited(problem(), 0.05)
    with pytest.raises(InfeasibleError, match=r"first cut is given and 1 .* has 0.9"):
        limited(problem(units=(1, 4)), 0.5)
    with pytest.raises(ValueError, match="profile --leak"):
        limited(problem(profile=profile((None,) * 5)), 0.5)


def test_the_owners_time_keeps_to_allowed_cuts() -> None:
    fixed = with_owner_time(limited(problem(), 0.3), lambda first, end: 1.0 * first)
    assert isinstance(fixed.units, tuple)
    assert fixed.units[0] in {2, 4, 5}


def test_too_few_units_between_an_allowed_cut_and_the_end_are_told() -> None:
    """It said that the owner's 1 GiB were too small for 0.3 MiB."""
    with pytest.raises(InfeasibleError, match=r"2 nodes must get 2 units or more .* there are 1: the first cut is 4"):
        with_owner_time(limited(problem(), 0.1), lambda first, end: 1.0)


def test_no_allowed_cut_fits_the_owners_memory() -> None:
    small = problem(units=FreeOwnerCuts(memory_bytes=BYTES_PER_GIB), use_all_nodes=False)
    with pytest.raises(InfeasibleError, match="limit of leakage"):
        solve_dp(limited(small, 0.15))


def own_ms(first: int, end: int) -> float:
    return 3.0 * first + 2.0 * (6 - end)


@pytest.mark.parametrize("owner_ms", [None, own_ms])
@pytest.mark.parametrize("use_all_nodes", [True, False])
def test_the_front_is_that_of_all_plans(owner_ms: Callable[[int, int], float] | None, use_all_nodes: bool) -> None:
    """Time, price, bytes and leakage of every plan there is, each tried."""
    units = [replace(unit, activation_bytes=(7 - i) * 1000) for i, unit in enumerate(profile().units)]
    question = problem(use_all_nodes=use_all_nodes, profile=replace(profile(), units=tuple(units)))
    last = 5 if owner_ms else 6  # the owner's time is that of both its ends
    points = set()
    for count in (2,) if use_all_nodes else (1, 2):
        for cuts in itertools.combinations(range(1, last + 1), count + 1):
            for order in itertools.permutations(["a", "b"], count):
                plan = plan_for(question, cuts, order)
                plan = replace(plan, owner_ms=owner_ms(cuts[0], cuts[-1]) if owner_ms else 0.0)
                num_bytes = 2 * sum(units[cut - 1].activation_bytes for cut in (cuts[0], cuts[-1]) if cut < 6)
                points.add((round(plan.round_ms, 6), plan.price_per_hour, num_bytes, LEAKS[cuts[0] - 1]))
    best = {one for one in points if not any(other != one and all(map(operator.le, other, one)) for other in points)}
    found = trade_offs(question, owner_ms=owner_ms)
    assert {(round(one.costs[0], 6), *one.costs[1:]) for one in found} == best
    assert len(found) == len(best) > 1


def test_a_front_without_leakage_and_one_that_nothing_fits() -> None:
    plain = problem(profile=profile((None,) * 5), use_all_nodes=False)
    assert all(one.leak is None for one in trade_offs(plain))
    partly = trade_offs(problem(profile=profile((0.9, None, 0.6, 0.1, None)), use_all_nodes=False))
    assert {one.leak for one in partly} <= {0.9, 0.6, 0.1}  # what is not measured is not the least
    with pytest.raises(InfeasibleError, match="the data owner has"):
        trade_offs(problem(units=FreeOwnerCuts(memory_bytes=1)), owner_ms=own_ms)


def test_profiles_keep_what_cuts_tell(tmp_path: Path) -> None:
    for name in ("a.csv", "a.parquet"):
        written = profile()
        (written.to_csv if name.endswith("csv") else written.to_parquet)(tmp_path / name)
        assert load_profile(tmp_path / name) == written
    plain = replace(written, units=tuple(replace(unit, leak_fisher=None) for unit in written.units))
    plain.to_csv(tmp_path / "plain.csv")
    assert "leak" not in (tmp_path / "plain.csv").read_text()
