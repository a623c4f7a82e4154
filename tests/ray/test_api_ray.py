"""The verbs of Python on Ray: objects travel to the places, and a Ray that is there already is used and left."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import ray
import torch
from support import same
from torch import nn

import raysplit
from raysplit.algorithms.fedavg import FedAvg

pytestmark = pytest.mark.ray

Y = np.arange(120) % 3
X = (np.random.default_rng(0).normal(0, 0.1, (120, 4)) + np.eye(3, 4)[Y]).astype(np.float32)
RUN: dict[str, Any] = {
    "data": ((X[:90], Y[:90]), (X[90:], Y[90:])),
    "partition": {"num_owners": 3},
    "training": {"rounds": 2, "optimizer": {"lr": 0.1}},
}
ON_RAY = {"kind": "ray", "places": 2}


def local_class() -> type[nn.Module]:
    """A class that no process can import."""

    class Local(nn.Module):
        def __init__(self, num_classes: int) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, num_classes))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(x)

    return Local


def test_a_local_class_and_a_local_method_train_on_ray_to_the_same_bits(ray_session: None) -> None:
    class Mine(FedAvg):
        name, title = "mine", "Mine"

    given = {**RUN, "model": local_class(), "algorithm": Mine()}
    assert same(raysplit.train(**given, cluster=ON_RAY), raysplit.train(**given, cluster="local"))
    assert ray.is_initialized()  # it was there before, and stays


def test_the_weights_of_a_module_are_the_start_on_ray_too(ray_session: None) -> None:
    torch.manual_seed(3)
    given = {**RUN, "model": local_class()(3), "algorithm": {"name": "minibatch_sfl", "cut": "layers.0"}}
    assert same(raysplit.train(**given, cluster=ON_RAY), raysplit.train(**given, cluster="local"))


def test_training_on_ray_works_inside_a_running_event_loop(ray_session: None) -> None:
    given = {**RUN, "model": "mlp", "algorithm": "fedavg"}

    async def cell() -> raysplit.Result:
        return raysplit.train(**given, cluster=ON_RAY)

    assert same(asyncio.run(cell()), raysplit.train(**given, cluster="local"))
