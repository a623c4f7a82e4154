"""Every round is published under fixed names; a column that a round lacks is left out."""

from __future__ import annotations

import asyncio

from support import settings

from raysplit.cluster.local import LocalCluster
from raysplit.train.config import check_config
from raysplit.train.operations import METRICS, Operations, measured
from raysplit.train.run import run
from raysplit.train.setup import prepare


def test_a_row_is_told_by_the_names_of_its_columns() -> None:
    row = {"round": 3, "num_samples": 40, "bytes": 1024, "train_loss": 0.5, "something": 7}
    assert measured(row) == {
        "raysplit_round": 3.0,
        "raysplit_samples": 40.0,
        "raysplit_bytes": 1024.0,
        "raysplit_train_loss": 0.5,
    }


async def _published() -> list[tuple[str, float]]:
    told: list[tuple[str, float]] = []
    config = check_config(settings())
    observer = Operations(lambda name, value: told.append((name, value)))
    await run(config, prepare(config), LocalCluster(), observers=[observer])
    return told


def test_a_run_tells_every_round() -> None:
    told = asyncio.run(_published())
    assert [value for name, value in told if name == "raysplit_round"] == [1.0, 2.0]
    assert {name for name, _ in told} == {metric.name for metric in METRICS}
