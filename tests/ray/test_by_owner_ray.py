"""Owners that read their own sources on Ray: the driver never opens one, and a killed place opens its own again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import raysplit

pytestmark = pytest.mark.ray

ON_RAY = {"kind": "ray", "places": 2}


def elsewhere(owner: str, driver: int) -> tuple[Any, Any]:
    """Return an owner's data, in any process but the driver's."""
    if os.getpid() == driver:
        raise RuntimeError("the driver opened the source of an owner")
    return made(owner)


def made(owner: str) -> tuple[Any, Any]:
    rng = np.random.default_rng(int(owner.rpartition("-")[2]))
    y = np.arange(24) % 3
    x = (rng.normal(0, 0.1, (24, 4)) + np.eye(3, 4)[y]).astype(np.float32)
    return (x[:18], y[:18]), (x[18:], y[18:])


def described(source: dict[str, Any], cluster: Any) -> dict[str, Any]:
    return {
        "model": {"name": "mlp"},
        "data": {"by_owner": {f"clinic-{i}": source for i in range(2)}},
        "algorithm": {"name": "minibatch_sfl"},
        "training": {"rounds": 2, "batch_size": 6, "optimizer": {"lr": 0.1}},
        "cluster": cluster,
    }


def test_sources_are_opened_at_their_owners_alone(tmp_path: Path) -> None:
    """The function raises in the driver, so that a single read there would end the run."""
    name = f"{Path(__file__).stem}:elsewhere"
    with pytest.raises(ValueError, match=r"owner-0 \(clinic-0, .*the driver opened"):
        raysplit.train(described({"name": name, "driver": os.getpid()}, "local"))
    far = raysplit.train(described({"name": name, "driver": os.getpid()}, ON_RAY), folder=tmp_path / "far")
    near = raysplit.train(described({"name": f"{Path(__file__).stem}:made"}, "local"))
    one, other = far.states["global"], near.states["global"]
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert far.accuracy == near.accuracy
