"""Sources of single owners, for runs whose owners read their own data: made by the owner's name."""

from __future__ import annotations

import os
from typing import Any

import numpy as np


def made(owner: str) -> tuple[Any, Any]:
    """Return an owner's training and test samples: three classes, 18 and 6 samples."""
    rng = np.random.default_rng(int(owner.rpartition("-")[2]))
    y = np.arange(24) % 3
    x = (rng.normal(0, 0.1, (24, 4)) + np.eye(3, 4)[y]).astype(np.float32)
    return (x[:18], y[:18]), (x[18:], y[18:])


def elsewhere(owner: str, driver: int) -> tuple[Any, Any]:
    """Return an owner's data in any process but the driver's."""
    if os.getpid() == driver:
        raise RuntimeError("the driver opened the source of an owner")
    return made(owner)


def at_resource(owner: str, resource: str) -> tuple[Any, Any]:
    """Return an owner's data in an actor that holds a custom resource, which one machine has."""
    import ray

    held = ray.get_runtime_context().get_assigned_resources()
    if not any(name.startswith(resource) for name in held):
        raise RuntimeError(f"the source was opened at a place with {sorted(held)}, and {resource} is not among them")
    return made(owner)


def described(source: dict[str, Any], num_owners: int = 2, **more: Any) -> dict[str, Any]:
    """Return settings of owners that all have one kind of source."""
    return {
        "model": {"name": "mlp"},
        "data": {"by_owner": {f"clinic-{i}": source for i in range(num_owners)}},
        "algorithm": {"name": "minibatch_sfl"},
        "training": {"rounds": 2, "batch_size": 6, "optimizer": {"lr": 0.1}},
        "cluster": {"kind": "local"},
        **more,
    }
