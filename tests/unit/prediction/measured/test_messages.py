"""What messages cost: measured on a cluster, and computed from round trips that are known."""

from __future__ import annotations

import asyncio

import pytest

from raysplit.cluster.local.cluster import LocalCluster
from raysplit.prediction.measured.messages import SIZES_BYTES, costs_of, round_trips


def test_costs_of_known_round_trips() -> None:
    """Half a millisecond each way, 100 MB/s, and a call of 0.2 ms."""
    apart_s = {size: 2 * (0.5e-3 + size / 100e6) + 0.2e-3 for size in SIZES_BYTES}
    costs = costs_of(apart_s, dict.fromkeys(SIZES_BYTES, 0.2e-3))
    assert costs.latency_ms == pytest.approx(0.5)
    assert costs.bandwidth_mbit_per_s == pytest.approx(800)
    assert costs.step_overhead_ms == pytest.approx(0.2)


def test_costs_are_never_negative() -> None:
    """On a busy machine, small messages may take longer than large ones."""
    costs = costs_of({size: 1e-3 / size for size in SIZES_BYTES}, dict.fromkeys(SIZES_BYTES, 1e-3))
    assert costs.latency_ms == 0
    assert costs.bandwidth_mbit_per_s > 0


def test_round_trips_are_timed_for_every_size() -> None:
    found = asyncio.run(round_trips(LocalCluster(), repeats=3))
    assert list(found) == list(SIZES_BYTES)
    assert all(0 < seconds < 1 for seconds in found.values())
