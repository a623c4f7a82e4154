"""What a model draws is the same on Ray as in one process."""

from __future__ import annotations

from typing import Any

import pytest
from random_nets import RUN, net
from support import same

import raysplit

METHODS: list[dict[str, Any]] = [{"name": "fedavg"}, {"name": "splitfed_v1", "cut": 3}]


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("lstm", "randn_like", "rrelu")]


@pytest.mark.parametrize("name", ["encoder", "numpy", *SLOW])
def test_ray_and_one_process_draw_the_same(name: str, ray_session: dict[str, float]) -> None:
    for method in METHODS:
        given = {**RUN, "model": net(name), "algorithm": method}
        there = raysplit.train(**given, cluster={"kind": "ray", "places": 2})
        assert same(there, raysplit.train(**given, cluster="local")), method
