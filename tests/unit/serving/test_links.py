"""The time of a message over a link with latency, jitter, losses, and over one that changes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raysplit.cluster.emulation.trace import LinkTrace, State, read_trace
from raysplit.serving.links import EdgeLink


def steady(bytes_per_s: float, latency_s: float, **more: Any) -> LinkTrace:
    return LinkTrace(
        times_s=(0.0, 1.0),
        up_bytes_per_s=(bytes_per_s,) * 2,
        down_bytes_per_s=(bytes_per_s,) * 2,
        latencies_s=(latency_s,) * 2,
        **more,
    )


def test_a_constant_link() -> None:
    link = EdgeLink(rate_bit_per_s=8e6, latency_s=0.5)
    assert link.expected_s(1_000_000) == 1.5
    lossy = EdgeLink(rate_bit_per_s=8e6, latency_s=0.5, loss_probability=0.25)
    assert lossy.expected_s(1_000_000) == 2.0
    draws = [lossy.drawn_s(1_000_000, np.random.default_rng(s)) for s in range(2000)]
    assert {round(d / 1.5) for d in draws} >= {1, 2, 3}
    assert np.mean(draws) == pytest.approx(2.0, rel=0.05)


def test_jitter_is_exponential_with_its_mean() -> None:
    """Of an exponential time of mean J, a half is below J ln 2 and one in a hundred above J ln 100."""
    link, stream = EdgeLink(rate_bit_per_s=8e6, latency_s=0.5, jitter_s=0.2), np.random.default_rng(0)
    late_s = np.array([link.drawn_s(1_000_000, stream) for _ in range(20_000)]) - 1.5
    assert late_s.min() >= 0
    assert late_s.mean() == pytest.approx(0.2, rel=0.03)
    assert np.percentile(late_s, [50, 99]) == pytest.approx([0.2 * math.log(2), 0.2 * math.log(100)], rel=0.05)


def test_every_attempt_has_its_own_jitter() -> None:
    link, stream = EdgeLink(latency_s=0.1, loss_probability=0.5, jitter_s=0.3), np.random.default_rng(1)
    assert link.expected_s(0) == pytest.approx(0.8)
    assert np.mean([link.drawn_s(0, stream) for _ in range(20_000)]) == pytest.approx(0.8, rel=0.03)


@given(
    num_bytes=st.integers(0, 10**6),
    latency_s=st.floats(0, 1),
    jitter_s=st.sampled_from([0.0, 0.3]),
    losses=st.sampled_from([0.0, 0.4]),
    start_s=st.floats(0, 5),
    seed=st.integers(0, 100),
)
def test_a_trace_that_stays_as_it_is_is_a_constant_link(
    num_bytes: int, latency_s: float, jitter_s: float, losses: float, start_s: float, seed: int
) -> None:
    constant = EdgeLink(rate_bit_per_s=8e5, latency_s=latency_s, jitter_s=jitter_s, loss_probability=losses)
    traced = EdgeLink(trace=steady(1e5, latency_s, repeat_s=2.0), jitter_s=jitter_s, loss_probability=losses)
    times = [
        link.drawn_s(num_bytes, np.random.default_rng(seed), start_s=start_s, way="down") for link in (constant, traced)
    ]
    assert times[0] == pytest.approx(times[1], abs=1e-9)


def test_a_link_that_changes_by_hand(tmp_path: Path) -> None:
    """Up 10 bytes/s, from 2 s on nothing, and from 3 s on 5 bytes/s; a message has the latency of when it has left."""
    path = tmp_path / "link.csv"
    path.write_text("seconds,up_mbit_per_s,latency_ms\n0,8e-5,100\n2,0,100\n3,4e-5,700\n")
    unlimited = State(math.inf, math.inf, 0.0, math.inf)
    link, stream = EdgeLink(trace=read_trace(path, unlimited, None)), np.random.default_rng(0)
    assert link.drawn_s(15, stream) == pytest.approx(1.5 + 0.1)
    assert link.drawn_s(25, stream) == pytest.approx(4.0 + 0.7)
    assert link.drawn_s(5, stream, start_s=2.5) == pytest.approx(1.5 + 0.7)
    assert link.drawn_s(25, stream, start_s=1.0, way="down") == pytest.approx(0.1)
    with pytest.raises(ValueError, match="depends on when a message is sent"):
        link.expected_s(1)


def test_a_message_that_is_lost_is_sent_again_at_the_rate_of_then() -> None:
    trace = LinkTrace(
        times_s=(0.0, 1.0), up_bytes_per_s=(10.0, 1.0), down_bytes_per_s=(10.0, 1.0), latencies_s=(0.0, 0.0)
    )
    link = EdgeLink(trace=trace, loss_probability=0.5)
    times = [link.drawn_s(10, np.random.default_rng(seed)) for seed in range(50)]
    assert {round(time_s, 6) for time_s in times} >= {1.0, 11.0, 21.0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate_bit_per_s": 0.0},
        {"rate_bit_per_s": math.nan},
        {"rate_bit_per_s": 1.0, "loss_probability": 1.0},
        {"latency_s": -1.0},
        {"latency_s": math.nan},
        {"latency_s": math.inf},
        {"jitter_s": -0.1},
        {"jitter_s": math.inf},
    ],
)
def test_values_that_are_no_link(wrong: dict[str, float]) -> None:
    """A latency of NaN was taken, and slept as no time."""
    with pytest.raises(ValueError, match="a link needs a rate above 0"):
        EdgeLink(**wrong)


def test_a_trace_has_rate_and_latency() -> None:
    for wrong in ({"rate_bit_per_s": 1e6}, {"latency_s": 0.1}):
        with pytest.raises(ValueError, match="leave rate and latency out"):
            EdgeLink(trace=steady(1.0, 0.0), **wrong)
