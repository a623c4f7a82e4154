"""Plans keep the units at the owner that its inputs must pass through before anything leaves it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from raysplit.models.profiler import measure_profile
from raysplit.schedulers.cuts.problem import ComputeNodeSpec, FreeOwnerCuts
from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB, NodeKind, Profile, UnitProfile, load_profile
from raysplit.schedulers.cuts.solve import CutProblem, solve_dp, solve_ilp, with_owner_time

NODES = (ComputeNodeSpec(name="node-1", kind=NodeKind(name="any", memory_bytes=BYTES_PER_GIB)),)


def chain(*parameter_bytes: int) -> Profile:
    """Units that cost the same; the owner would keep as few as it may."""
    units = tuple(
        UnitProfile(
            name=f"unit{i}", forward_ms=1, backward_ms=1, update_ms=0, activation_bytes=8, parameter_bytes=weights
        )
        for i, weights in enumerate(parameter_bytes)
    )
    return Profile(model="chain", device="here", batch_size=1, units=units)


@pytest.mark.parametrize("solve", [solve_dp, solve_ilp])
def test_the_owner_keeps_the_first_unit_with_weights(solve: object) -> None:
    """A plan left the owner the unit that flattens, so that nodes got its samples as they were."""
    assert callable(solve)
    problem = CutProblem(
        profile=chain(0, 0, 4, 4, 4), owners=1, nodes=NODES, units=FreeOwnerCuts(memory_bytes=BYTES_PER_GIB)
    )
    assert solve(problem).cuts[0] >= 3
    assert replace(problem, may_send_inputs=True).boundaries == (1, 5)
    assert problem.boundaries == (3, 5)


def test_a_plan_that_counts_the_owners_time_keeps_the_inputs() -> None:
    """Of all free cuts, those in front of which no weight changes the inputs were tried too, and ended the command."""
    problem = CutProblem(
        profile=chain(0, 0, 4, 4, 4), owners=1, nodes=NODES, units=FreeOwnerCuts(memory_bytes=BYTES_PER_GIB)
    )

    def own(first: int, end: int) -> float:
        return 2.0 * (first + 5 - end)

    assert with_owner_time(problem, own).units == (3, 3)
    assert with_owner_time(replace(problem, may_send_inputs=True), own).units == (1, 3)


def test_units_that_would_get_samples_are_refused() -> None:
    problem = CutProblem(profile=chain(0, 4, 4, 4), owners=1, nodes=NODES, units=(2, 3))
    with pytest.raises(ValueError, match=r"the nodes' first unit is 1, .* let the owner keep units 0-1, or allow it"):
        replace(problem, units=(1, 3))
    assert replace(problem, units=(1, 3), may_send_inputs=True).boundaries == (1, 4)
    with pytest.raises(ValueError, match="no cut of this model keeps the inputs"):
        replace(problem, profile=chain(0, 0, 0, 0))


def test_a_profile_says_what_crosses(tmp_path: Path) -> None:
    """The first unit has weights, but they only scale the inputs; a measurement knows that."""
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    profile = measure_profile(model, name="net", input_shape=(4,), batch_size=3, repeats=1)
    assert [unit.sends_inputs for unit in profile.units] == [True, False, False, False]
    for name, write in (("a.csv", profile.to_csv), ("a.parquet", profile.to_parquet)):
        write(tmp_path / name)
        assert load_profile(tmp_path / name) == profile
    assert profile.first_private_cut() == 2
