"""The closed-form time model against the figures published for MP-SL and against chains counted by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest

from raysplit.schedulers.cuts.profiles import load_profile
from raysplit.schedulers.cuts.time_model import (
    Averaging,
    OwnerLoad,
    Round,
    Stage,
    averaging_ms,
    full_ms,
    loop_ms,
    round_ms,
    saturated_ms,
    saturation_owners,
    training_lower_bound_ms,
    training_ms,
)

LINK = 1e6  # bytes/s, 8 Mbit/s


def resnet_round(cuts: tuple[int, ...], owners: int) -> Round:
    """ResNet-101 of the paper: nodes are virtual machines, owners Raspberry Pi 4B; 2 epochs of 16 batches."""
    node = load_profile("resnet101_mpsl_vm").units
    pi = load_profile("resnet101_mpsl_d1").units
    stages = tuple(
        Stage(
            forward_ms=sum(unit.forward_ms for unit in node[start:end]),
            backward_ms=sum(unit.backward_ms for unit in node[start:end]),
            update_ms=sum(unit.update_ms for unit in node[start:end]),
        )
        for start, end in pairwise(cuts)
    )
    owner = OwnerLoad(
        first_forward_ms=sum(unit.forward_ms for unit in pi[: cuts[0]]),
        last_ms=sum(unit.forward_ms + unit.backward_ms + unit.update_ms for unit in pi[cuts[-1] :]),
        first_backward_ms=sum(unit.backward_ms + unit.update_ms for unit in pi[: cuts[0]]),
        first_bytes=node[cuts[0] - 1].activation_bytes,
        last_bytes=node[cuts[-1] - 1].activation_bytes,
        up_bytes_per_s=LINK,
        down_bytes_per_s=LINK,
    )
    return Round(stages=stages, owners=(owner,) * owners, batches=32)


AVERAGING = Averaging(bytes_per_owner=69_814, link_bytes_per_s=LINK)


@pytest.mark.parametrize(
    ("cuts", "minutes", "bars"),
    [
        ((2, 26, 35), (5.91, 11.73, 17.55, 23.37, 29.19), (5.9, 11.7, 17.6, 23.4, 29.2)),
        ((2, 16, 26, 35), (4.92, 9.75, 14.58, 19.40, 24.23), (5.0, 9.8, 14.6, 19.4, 24.2)),
    ],
)
def test_published_resnet_rounds(cuts: tuple[int, ...], minutes: tuple[float, ...], bars: tuple[float, ...]) -> None:
    """Equation (4) for 10 to 50 owners, and equation (6) within 0.1 min of the model's bars."""
    for owners, minute, bar in zip((10, 20, 30, 40, 50), minutes, bars, strict=True):
        work = resnet_round(cuts, owners)
        assert training_ms(work) / 60_000 == pytest.approx(minute, abs=0.006)
        assert round_ms(work, AVERAGING) / 60_000 == pytest.approx(bar, abs=0.1)


@pytest.mark.parametrize(
    ("l_fwd_ms", "l_bwd_ms", "slope"), [(300, 1300, 0.853), (400, 1550, 1.040), (298.15, 1100, 0.746)]
)
def test_published_vgg_slopes(l_fwd_ms: float, l_bwd_ms: float, slope: float) -> None:
    """Minutes that each further owner costs, from the latencies measured for 1, 2 and 3 hops."""
    stages = (Stage(forward_ms=l_fwd_ms, backward_ms=l_bwd_ms), Stage(forward_ms=0, backward_ms=0))
    owner = resnet_round((2, 35), 1).owners[0]
    per_owner = [training_ms(Round(stages=stages, owners=(owner,) * count, batches=32)) / 60_000 for count in (10, 50)]
    assert (per_owner[1] - per_owner[0]) / 40 == pytest.approx(slope, rel=0.01)


def test_published_round_trip_and_saturation() -> None:
    work = resnet_round((2, 26, 35), 10)
    assert loop_ms(work.stages, work.owners[0]) / 1000 == pytest.approx(7.08, abs=0.005)
    assert full_ms(work.stages) / 1000 == pytest.approx(1.091, abs=0.0005)
    assert saturation_owners(work) == pytest.approx(6.5, abs=0.05)


def test_saturated_rate_equals_full_time_only_if_one_node_is_slowest_in_both_directions() -> None:
    one = (Stage(forward_ms=3, backward_ms=5, update_ms=1), Stage(forward_ms=2, backward_ms=4))
    assert (full_ms(one), saturated_ms(one)) == (9, 9)
    two = (Stage(forward_ms=3, backward_ms=4), Stage(forward_ms=2, backward_ms=5))
    assert (full_ms(two), saturated_ms(two)) == (8, 7)


OWNER = OwnerLoad(
    first_forward_ms=1,
    last_ms=2,
    first_backward_ms=3,
    first_bytes=40,
    last_bytes=10,
    up_bytes_per_s=10_000,
    down_bytes_per_s=5_000,
)
STAGES = (Stage(forward_ms=10, backward_ms=20, update_ms=1), Stage(forward_ms=30, backward_ms=5, update_ms=2))


def test_a_round_counted_by_hand() -> None:
    """start 1 + 4, first batch 68, five more of 30 + 21, end 8 + 3."""
    work = Round(stages=STAGES, owners=(OWNER,) * 2, batches=3)
    assert training_ms(work) == 5 + 68 + 5 * 51 + 11


def test_one_hop_has_no_pipeline_to_fill() -> None:
    work = Round(stages=STAGES[:1], owners=(OWNER,) * 2, batches=3)
    assert training_ms(work) == 5 + 6 * 31 + 11


def test_round_trip_counted_by_hand() -> None:
    """Own 6; up 4 + 1, down 8 + 2; nodes 30 + 35 without updates; a hop of 7 both ways."""
    assert loop_ms(STAGES, OWNER) == 6 + 5 + 10 + 65
    assert loop_ms(STAGES, OWNER, [7]) == 6 + 5 + 10 + 65 + 14


def test_lower_bound_is_the_owners_loop_or_the_busiest_node() -> None:
    few = Round(stages=STAGES, owners=(OWNER,), batches=3)
    many = Round(stages=STAGES, owners=(OWNER,) * 9, batches=3)
    assert training_lower_bound_ms(few) == 3 * 86
    assert training_lower_bound_ms(many) == 27 * 37
    assert saturation_owners(many) == 86 / 51


def test_averaging_counted_by_hand() -> None:
    """The last upload of 2 s, 0.5 s of summing, three downloads of 2 s."""
    averaging = Averaging(bytes_per_owner=200, link_bytes_per_s=100, compute_ms=500)
    assert averaging_ms(3, averaging) == 2000 + 500 + 3 * 2000


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"an owner's link carries 0 bytes/s up and 1 down; both must"):
        OwnerLoad(
            first_forward_ms=1,
            last_ms=1,
            first_backward_ms=1,
            first_bytes=1,
            last_bytes=1,
            up_bytes_per_s=0,
            down_bytes_per_s=1,
        )
    with pytest.raises(ValueError, match="the aggregator's link carries 0 bytes/s"):
        Averaging(bytes_per_owner=1, link_bytes_per_s=0)
    with pytest.raises(ValueError, match="0 stages, 1 owners and 1 batches"):
        Round(stages=(), owners=(OWNER,), batches=1)
    with pytest.raises(ValueError, match="negative or not finite"):
        Stage(forward_ms=-1, backward_ms=0)
