"""A language model with dropout, whose windows differ in length, has the same bits in one process and on Ray."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from sequence_support import text
from support import same

from raysplit.cluster.local.cluster import LocalCluster
from raysplit.config.build import build
from raysplit.training.loop import run


def test_ray_trains_the_language_model_of_one_process(tmp_path: Path, make_cluster: Any) -> None:
    config = text(tmp_path, {"name": "splitfed_v1", "cut": "block1"}, tail="keep")
    here, there = (asyncio.run(run(build(config), cluster)) for cluster in (LocalCluster(), make_cluster(2)))
    assert same(here, there)
