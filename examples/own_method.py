"""Train with a model, data and an algorithm of one's own, all objects of this program.

python examples/own_method.py [ray]
"""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import torch
from pydantic import Field
from torch import nn

import raysplit
from raysplit.algorithms.base import AGGREGATOR
from raysplit.algorithms.fedavg import FedAvg, train_and_submit


class PullOptions(raysplit.Options):
    pull: float = Field(default=0.5, ge=0, le=1)


async def halfway_round(
    owner: raysplit.DataOwner, team: raysplit.Team, context: raysplit.RoundContext, *, pull: float
) -> None:
    mean, own = await team.aggregator.current(), owner.weights()
    owner.load_weights({name: torch.lerp(own[name], mean[name], pull) for name in own})
    await train_and_submit(owner, team, context)


class HalfwayAveraging(FedAvg):
    """Owners go only part of the way from their own weights to the mean."""

    name = "halfway"
    title = "Halfway averaging"
    options_type = PullOptions

    async def round(self, context: raysplit.RoundContext) -> raysplit.RoundReport:
        await self.aggregator().begin(context)
        team = raysplit.Team(peers=self.peers(AGGREGATOR))
        program = partial(halfway_round, pull=self.options.pull)
        return raysplit.RoundReport(owners=await self.run_owners(program, team, context))


class Net(nn.Module):
    def __init__(self, input_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(input_shape[0], 16), nn.ReLU(), nn.Linear(16, num_classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def clusters(num_samples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points around the corners of a tetrahedron; the class is the corner."""
    y = np.arange(num_samples) % 4
    x = np.random.default_rng(seed).normal(0, 0.4, (num_samples, 4)) + np.eye(4)[y]
    return x.astype(np.float32), y


def main(cluster: str = "local") -> None:
    for pull in (1.0, 0.3):
        result = raysplit.train(
            model=Net,
            data=(clusters(400, seed=0), clusters(200, seed=1)),
            partition={"name": "dirichlet", "num_owners": 5, "alpha": 0.3},
            algorithm=HalfwayAveraging(pull=pull),
            training={"rounds": 5, "optimizer": {"lr": 0.1}},
            cluster=cluster,
        )
        print(f"pull {pull}: {result}")


if __name__ == "__main__":  # an argument: ray
    main(*sys.argv[1:])
