"""Accumulated, clipped and warmed-up steps in bfloat16 are the same on Ray."""

from __future__ import annotations

from typing import Any

import pytest
from support import run_on, same, train

RULES: dict[str, Any] = {
    "rounds": 2,
    "batch_size": 18,
    "optimizer": {"name": "adamw", "lr": 0.01},
    "accumulate": 2,
    "clip": {"norm": 0.5},
    "warmup_steps": 4,
    "lr_schedule": "cosine",
    "lr_schedule_per": "step",
}
MODEL = {"name": "unit.actors.steps.test_steps:net", "precision": "bf16", "recompute": True}


@pytest.mark.parametrize("algorithm", [{"name": "splitfed_v1", "cut": 3}, {"name": "mpsl", "cuts": [2, 4]}])
def test_ray_takes_the_steps_of_one_process(algorithm: dict[str, Any], make_cluster: Any) -> None:
    given = {"algorithm": algorithm, "model": MODEL, "training": RULES}
    here = train(**given)
    assert same(here, train(**{**given, "algorithm": {"name": "fedavg"}}))
    assert same(run_on(make_cluster(2), **given), here)


def test_ray_trains_the_adapters_of_one_process(make_cluster: Any) -> None:
    model = {"name": "unit.models.adapters.test_adapters:transformer", "lora": {"rank": 2, "dropout": 0.1}}
    training = {"rounds": 2, "batch_size": 32, "optimizer": {"name": "adamw", "lr": 0.01}}
    given = {"algorithm": {"name": "mpsl", "cuts": ["2", "3"]}, "model": model, "training": training}
    here = train(**given)
    assert same(here, train(**{**given, "algorithm": {"name": "fedavg"}}))
    for places in (1, 2):
        assert same(run_on(make_cluster(places), **given), here)
