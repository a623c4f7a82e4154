"""A net with dropout on both sides of its cuts, and runs that train it whole and in parts."""

from __future__ import annotations

from typing import Any

from support import train
from torch import nn

NET = "dropout_net:net"
ADAM = {"name": "adamw", "lr": 0.01, "weight_decay": 0.1}
SPLIT: list[dict[str, Any]] = [
    {"name": "splitfed_v1", "cut": 3},
    {"name": "mpsl", "cuts": [2, 4]},
    {"name": "mpsl", "cuts": [1, 3, 5], "nodes": ["node-0", "node-1"]},
]


def net(num_classes: int, *, p: float = 0.3, norm: bool = False) -> nn.Module:
    """Dropout on both sides of the cuts, and on request a batch norm."""
    middle: list[nn.Module] = [nn.BatchNorm1d(16)] if norm else [nn.LayerNorm(16)]
    layers = [nn.Linear(10, 16), nn.Dropout(p), *middle, nn.ReLU(), nn.Dropout(p), nn.Linear(16, num_classes)]
    return nn.Sequential(*layers)


def run(algorithm: dict[str, Any], *, model: dict[str, Any] | None = None, **training: Any) -> Any:
    """Three owners of 80 samples: four batches of 18 and one of 8 in a round."""
    rules = {"rounds": 2, "batch_size": 18, "optimizer": ADAM, **training}
    return train(algorithm=algorithm, model={"name": NET, **(model or {})}, training=rules)
