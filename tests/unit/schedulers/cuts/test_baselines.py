"""What plans are compared with, on published numbers of MP-SL (arXiv 2402.00208) and on chains drawn by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raysplit.schedulers.cuts.baselines import (
    alternatives,
    horizontal_scaling,
    manual_split,
    one_hop,
    sequential_round_ms,
)
from raysplit.schedulers.cuts.profiles import BYTES_PER_GIB, NodeKind, Profile, UnitProfile, load_profile
from raysplit.schedulers.cuts.solve import ComputeNodeSpec, CutProblem, FreeOwnerCuts, InfeasibleError, solve_dp
from raysplit.schedulers.cuts.time_model import OwnerLoad, Stage


def chain(*forward_ms: float) -> Profile:
    """Units of these forward times, no backward pass, 1 GiB each; unit 0 and the last one are the owner's."""
    units = tuple(
        UnitProfile(
            name=f"unit{i}",
            forward_ms=ms,
            backward_ms=0,
            update_ms=0,
            activation_bytes=BYTES_PER_GIB,
            parameter_bytes=0,
            sends_inputs=False,
        )
        for i, ms in enumerate((1.0, *forward_ms, 1.0))
    )
    return Profile(model="chain", device="none", batch_size=1, units=units)


def problem(profile: Profile, owners: int, *kinds: tuple[int, float]) -> CutProblem:
    """All inner units of `profile` on nodes of (GiB, slowdown)."""
    nodes = tuple(
        ComputeNodeSpec(name=f"vm-{i}", kind=NodeKind(name="vm", memory_bytes=gib * BYTES_PER_GIB, slowdown=slowdown))
        for i, (gib, slowdown) in enumerate(kinds, start=1)
    )
    return CutProblem(profile=profile, owners=owners, nodes=nodes, units=(1, len(profile.units) - 2))


def test_manual_split_comes_near_to_the_mean() -> None:
    """24 ms over 3 nodes are 8 each: 5 + 3, then 4 + 5 (9 is nearer than 4), the rest to the last."""
    assert manual_split(problem(chain(5, 3, 4, 5, 3, 4), 1, (99, 1), (99, 1), (99, 1))).cuts == (1, 3, 5, 7)


def test_manual_split_takes_the_better_of_two_rules() -> None:
    """9 ms each. Near to the mean: 6 + 5 (11 is nearer than 6), then 7 and 9, so 11 at most. At 9 and 18 of the work
    done so far: 6 + 5 too, since 11 is nearer to 9 than 6 is, then up to 18. Both say 2, 1 and 1 units."""
    assert manual_split(problem(chain(6, 5, 7, 9), 1, (99, 1), (99, 1), (99, 1))).cuts == (1, 3, 4, 5)


def test_manual_split_leaves_a_unit_for_everyone() -> None:
    assert manual_split(problem(chain(1, 1, 9), 1, (99, 1), (99, 1), (99, 1))).cuts == (1, 2, 3, 4)
    assert manual_split(problem(chain(9, 1, 1), 1, (99, 1), (99, 1), (99, 1))).cuts == (1, 2, 3, 4)


def test_manual_split_gives_a_slow_node_less() -> None:
    """12 equal units, the second node half as fast: 8 ms each is fair, so 8 units and 4."""
    assert manual_split(problem(chain(*[1.0] * 12), 1, (99, 1), (99, 2))).cuts == (1, 9, 13)


def test_a_careful_split_by_hand_is_the_planned_one_on_equal_nodes() -> None:
    """VGG-19, units 3 to 21, five equal nodes: 747.5 ms, planned and by hand.

    A rule by which a node never takes more than the mean, so that the last one gets the rest, came to 1421.7 ms, and
    the planner looked 47 % better than any person would have split it.
    """
    nodes = tuple(ComputeNodeSpec(name=f"vm-{i}", kind=NodeKind(name="vm", memory_bytes=2**50)) for i in range(5))
    vgg = CutProblem(profile=load_profile("vgg19_mpsl_vm"), owners=1, nodes=nodes, units=(3, 21))
    assert manual_split(vgg).objective_ms == solve_dp(vgg).objective_ms == pytest.approx(747.5, rel=1e-3)


def test_one_hop_takes_the_fastest_node_that_has_room() -> None:
    plan = one_hop(problem(chain(1, 2, 3), 2, (5, 1), (6, 3), (9, 2)))
    assert (plan.nodes, plan.cuts, plan.objective_ms) == (("vm-3",), (1, 4), 12.0)
    with pytest.raises(InfeasibleError, match=r"vm-1 lacks 1.00 GiB for 2 replicas of units 1-3.*vm-2 lacks 2.00 GiB"):
        one_hop(problem(chain(1, 2, 3), 2, (5, 1), (4, 1)))


def test_horizontal_scaling_assigns_owners_exactly() -> None:
    """6 ms a batch at speed 1, 12 ms at half of it: 7 owners go 5 and 2, both near 30 ms."""
    plan = horizontal_scaling(problem(chain(1, 2, 3), 7, (99, 1), (99, 2)))
    assert [share.num_owners for share in plan.shares] == [5, 2]
    assert plan.round_ms == 32 * 30.0


def test_horizontal_scaling_is_bound_by_memory() -> None:
    """The fast node has room for 2 replicas of 3 GiB only, wherever it stands in the list."""
    plan = horizontal_scaling(problem(chain(1, 2, 3), 7, (99, 2), (8, 1)))
    assert [share.num_owners for share in plan.shares] == [5, 2]
    assert plan.round_ms == 32 * 60.0
    with pytest.raises(InfeasibleError, match=r"4 whole replicas of units 1-3 fit, 3.000 GiB each; 7 owners need"):
        horizontal_scaling(problem(chain(1, 2, 3), 7, (8, 1), (8, 1)))


def test_identical_nodes_side_by_side_are_never_slower_than_a_pipeline() -> None:
    nodes = tuple(ComputeNodeSpec(name=f"vm-{i}", kind=NodeKind(name="vm", memory_bytes=2**50)) for i in range(5))
    vgg = CutProblem(profile=load_profile("vgg19_mpsl_vm"), owners=150, nodes=nodes, units=(3, 21))
    assert horizontal_scaling(vgg).round_ms <= solve_dp(vgg).round_ms


def test_baselines_with_fixed_cuts_say_so() -> None:
    free = replace(problem(chain(1, 2, 3), 1, (9, 1)), units=FreeOwnerCuts(memory_bytes=2**50))
    with pytest.raises(ValueError, match=r"fixed owner cuts; give units=\(first, last\)"):
        manual_split(free)


def owner(batch_ms: float) -> OwnerLoad:
    """ResNet-101 cut behind unit 1 and before unit 35, links of 8 Mbit/s."""
    return OwnerLoad(
        first_forward_ms=batch_ms,
        last_ms=0,
        first_backward_ms=0,
        first_bytes=2049.568 * 1024,
        last_bytes=257.568 * 1024,
        up_bytes_per_s=1e6,
        down_bytes_per_s=1e6,
    )


@pytest.mark.parametrize(("batch_ms", "minutes"), [(3150, 158), (7250, 223)])
def test_sequential_splitnn_suffers_from_slow_owners(batch_ms: float, minutes: float) -> None:
    """Published: 30 owners of 32 batches, the faster or the slower Raspberry Pi."""
    node = Stage(forward_ms=296.31, backward_ms=1652.38, update_ms=35.85)
    round_ms = sequential_round_ms(node, [owner(batch_ms)] * 30, 32, handover_ms=0)
    assert round_ms / 60_000 == pytest.approx(minutes, abs=0.5)


def test_handover_happens_between_owners() -> None:
    node = Stage(forward_ms=0, backward_ms=0)
    free = OwnerLoad(
        first_forward_ms=1,
        last_ms=1,
        first_backward_ms=1,
        first_bytes=0,
        last_bytes=0,
        up_bytes_per_s=1,
        down_bytes_per_s=1,
    )
    assert sequential_round_ms(node, [free] * 3, 2, handover_ms=100) == 3 * 2 * 3 + 2 * 100


def test_what_a_plan_is_compared_with() -> None:
    """Units of 1, 2 and 3 ms and 1 GiB on two nodes of 5 GiB, for two owners: one node lacks room, so do copies."""
    small = problem(chain(1, 2, 3), 2, (5, 1), (5, 1))
    by_hand, one, copies = alternatives(small, solve_dp(small))
    assert (by_hand.name, by_hand.round_ms, by_hand.note) == ("split by hand", 2 * 32 * 3.0, "cuts [1, 3, 4]")
    assert one.round_ms is None
    assert "vm-1 lacks 1.00 GiB" in one.note
    assert (copies.round_ms, copies.note) == (32 * 6.0, "1 owner on vm-1, 1 owner on vm-2")


def test_a_split_by_hand_that_does_not_fit_says_so() -> None:
    tight = problem(chain(1, 1, 1, 3), 1, (2, 1), (2, 1))
    by_hand, _, copies = alternatives(tight, solve_dp(tight))
    assert by_hand.note == "cuts [1, 4, 5]; too much for the memory of vm-1"
    assert copies.round_ms is None
    assert "whole replicas of units 1-4 fit" in copies.note


def test_free_owner_cuts_are_compared_where_the_plan_made_them() -> None:
    free = replace(problem(chain(1, 2, 3), 1, (9, 1)), units=FreeOwnerCuts(memory_bytes=2**50))
    assert all(way.round_ms is not None for way in alternatives(free, solve_dp(free)))
