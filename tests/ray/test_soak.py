"""Hundreds of rounds: the memory of all processes stays where it was after the first of them.

In every round parties send one another sixteen messages of half a MiB. Whoever kept one of them per round would have a
hundred MiB more in the last quarter than in the second, so a bound of forty tells a leak from an allocator's mood.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from ray._private.internal_api import memory_summary
from support import settings

from raysplit.cluster.on_ray.cluster import RayCluster
from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.runs.callback import Callback
from raysplit.runs.folder import Row
from raysplit.training.loop import run
from raysplit.training.recovery.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

_MIB = 2**20
_ROUNDS = 400


class Memory(Callback):
    """Private memory by process after every round: of this one, and of the places."""

    def __init__(self) -> None:
        self.mib: dict[str, list[float]] = {}

    def round_ended(self, _: Row) -> None:
        me = psutil.Process()
        places = [p for p in me.children(recursive=True) if "ray::Place" in " ".join(p.cmdline())]
        for process in (me, *places):
            name = "coordinator" if process == me else f"place {process.pid}"
            self.mib.setdefault(name, []).append(process.memory_full_info().uss / _MIB)


def growth_mib(curve: list[float]) -> float:
    """From the second quarter to the last, by the medians."""
    quarter = len(curve) // 4
    return statistics.median(curve[-quarter:]) - statistics.median(curve[quarter : 2 * quarter])


def test_memory_is_flat_over_hundreds_of_rounds(make_cluster: Callable[..., RayCluster], tmp_path: Path) -> None:
    model = {"name": "mlp", "hidden": [2048, 8]}
    training = {"rounds": _ROUNDS, "batch_size": 64, "max_steps": 2, "optimizer": {"lr": 0.01}}
    changes = {"model": model, "training": training, "partition__num_owners": 4, "evaluation": {"every": 50}}
    config = check_config(settings(algorithm={"name": "minibatch_sfl", "cut": 1}, **changes))
    memory = Memory()
    asyncio.run(run(build(config), make_cluster(2), callbacks=[memory], checkpoints=Checkpoints(tmp_path)))
    grown = {name: round(growth_mib(curve), 1) for name, curve in memory.mib.items() if len(curve) == _ROUNDS}
    assert len(grown) >= 3, memory.mib.keys()
    assert max(grown.values()) < 40, grown
    told = memory_summary(stats_only=True)
    assert "Spilled" not in told, told


def test_a_leak_would_be_seen() -> None:
    """A message of half a MiB kept in each of 400 rounds."""
    assert growth_mib([100 + 0.5 * number for number in range(_ROUNDS)]) == 100
    assert growth_mib([100 + number % 7 for number in range(_ROUNDS)]) == 0
