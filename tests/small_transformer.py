"""A small transformer, and runs that train some of its weights or adapters."""

from __future__ import annotations

import math
from typing import Any

import torch
from support import train
from torch import Tensor, nn

from raysplit.models.adapters.tuning import Tuning
from raysplit.models.spec import ModelSpec

TRANSFORMER = "small_transformer:transformer"
ADAM = {"name": "adamw", "lr": 0.01}
LORA = {"rank": 2, "alpha": 4, "dropout": 0.1}


class Block(nn.Module):
    """Attention over the positions of an input, and a layer on each, with dropout."""

    def __init__(self, width: int, p: float) -> None:
        super().__init__()
        self.norm, self.query, self.key, self.value = nn.LayerNorm(width), *(nn.Linear(width, width) for _ in range(3))
        self.out, self.up, self.down = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.drop = nn.Dropout(p)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        scores = self.query(y) @ self.key(y).transpose(1, 2) / math.sqrt(y.shape[-1])
        x = x + self.drop(self.out(scores.softmax(-1) @ self.value(y)))
        y = self.down(torch.relu(self.up(x)))
        return x + y


class Rows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, (5, 2))


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def transformer(num_classes: int, p: float = 0.1) -> nn.Module:
    """A small transformer over five positions of two numbers."""
    return nn.Sequential(
        Rows(), nn.Linear(2, 8), Block(8, p), Block(8, p), Block(8, p), Mean(), nn.Linear(8, num_classes)
    )


def run(algorithm: Any = "fedavg", *, model: dict[str, Any] | None = None, **more: Any) -> Any:
    given = {"name": algorithm} if isinstance(algorithm, str) else algorithm
    training = {"rounds": 2, "batch_size": 16, "optimizer": ADAM, **more.pop("training", {})}
    network = {"name": TRANSFORMER, "lora": LORA, **(model or {})}
    return train(algorithm=given, model=network, training=training, partition__num_owners=4, **more)


def spec(**tuning: Any) -> ModelSpec:
    return ModelSpec(
        name=TRANSFORMER, input_shape=(10,), num_classes=5, seed=3, tuning=Tuning(**tuning), options={"p": 0.0}
    )


U_SHAPE = {"name": "mpsl", "cuts": ["2", "3"]}


def small() -> dict[str, Any]:
    return {
        "data": {"name": "random", "num_classes": 5, "num_samples": 60, "dim": 10, "seed": 1},
        "partition": {"name": "iid", "num_owners": 2},
        "algorithm": {"name": "splitfed_v1", "cut": 3},
        "training": {"rounds": 2, "batch_size": 16},
        "cluster": "local",
    }
