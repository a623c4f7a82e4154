"""Multi-task split learning across processes: the bits and the bytes of the in-process run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import run_on, same, settings, train

from raysplit.api import train_cell
from raysplit.cluster.on_ray.cluster import RayCluster
from raysplit.runs.folder import read_metrics
from raysplit.sweeps.sweep import Axis, cells, run_cells

Make = Callable[..., RayCluster]

ARCHITECTURES = [{"model": "mlp", "hidden": [20, 16], "cut": 2}, {"model": "mlp", "hidden": [16], "cut": 1}]


@pytest.mark.parametrize(
    "options",
    [{}, {"absence": 0.4}, {"bottoms": ARCHITECTURES}, {"learning_rates": "auto"}],
    ids=["plain", "absence", "bottoms", "measured rates"],
)
def test_ray_and_local_give_the_same_bits_and_the_same_traffic(options: dict[str, Any], make_cluster: Make) -> None:
    here = train(algorithm={"name": "mtsl", "cut": 1, **options})
    there = run_on(make_cluster(2), algorithm={"name": "mtsl", "cut": 1, **options})
    assert there.states.keys() == here.states.keys()
    assert all(same(there.states[name], here.states[name]) for name in here.states)
    assert there.links == here.links


def test_fedem_gives_the_same_bits(make_cluster: Make) -> None:
    here, there = train(algorithm={"name": "fedem"}), run_on(make_cluster(2), algorithm={"name": "fedem"})
    assert all(same(there.states[name], here.states[name]) for name in here.states)


def test_traffic_is_activations_and_labels_up_and_gradients_down(make_cluster: Make) -> None:
    """80 rows per owner, 16 wide in four bytes, in batches of 32, 32 and 16."""
    result = run_on(
        make_cluster(2),
        algorithm={"name": "mtsl", "cut": 1},
        model__dtype="float32",
        training={"rounds": 1, "batch_size": 32},
    )
    found = {(t.source, t.destination): t.num_bytes for t in result.links}
    expected = {(f"owner-{m}", "server"): 80 * (4 * 16 + 4) for m in range(3)}
    expected |= {("server", f"owner-{m}"): 80 * 4 * 16 for m in range(3)}
    assert found == expected


def test_cells_of_a_sweep_run_as_tasks(ray_session: dict[str, float], tmp_path: Path) -> None:
    """Two at a time, each in a process of its own, with the numbers of a run in this one."""
    grid = cells(settings(algorithm={"name": "mtsl"}), [Axis(key="seed", values=(3, 4))])
    assert run_cells(grid, tmp_path, train=train_cell, parallel=2) == {}
    here = train(algorithm={"name": "mtsl"})
    there = read_metrics(tmp_path / "seed=3")
    assert [row["train_loss"] for row in there] == [row["train_loss"] for row in here.rows]
    kept = []
    assert (
        run_cells(grid, tmp_path, train=train_cell, parallel=2, done=lambda cell, was_there: kept.append(was_there))
        == {}
    )
    assert kept == [True, True]
