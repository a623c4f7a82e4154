"""More owners in a place than have their parts at hand: the number of places leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from support import run_on, same, train

from raysplit.actors.parts.owner_store import MAX_AT_HAND
from raysplit.cluster.on_ray.cluster import RayCluster


def test_packed_owners_give_the_same_bits_on_any_number_of_places(make_cluster: Callable[..., RayCluster]) -> None:
    """Momentum is kept between rounds, so what was packed matters."""
    num_owners = 3 * MAX_AT_HAND
    changes: dict[str, Any] = {
        "algorithm": {"name": "fedavg"},
        "data__num_samples": 2 * num_owners,
        "partition__num_owners": num_owners,
        "training": {
            "rounds": 3,
            "batch_size": 1,
            "cohort_size": 100,
            "owner_optimizer_state": "keep",
            "optimizer": {"lr": 0.1, "momentum": 0.9},
        },
    }
    here = train(**changes)
    for num_places in (1, 2):
        assert same(run_on(make_cluster(num_places), **changes), here)
