"""Sources that owners open themselves, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

import raysplit
from raysplit.config.run import RunConfig, check_config

SIZES = ((18, 5), (12, 4), (9, 6))  # training and test samples of each owner


def arrays(index: int, *, classes: int = 3, width: int = 6) -> dict[str, Any]:
    """The samples of one owner; every class occurs on both sides."""
    rng = np.random.default_rng(index)
    train, test = SIZES[index]
    y = np.concatenate([np.arange(train) % classes, np.arange(test) % classes])
    x = rng.normal(size=(train + test, width)).astype(np.float32) + y[:, None]
    return {"x": x, "y": y, "split": np.array(["train"] * train + ["test"] * test)}


def own_clinic(owner: str, width: int = 6) -> tuple[Any, Any]:
    """A function that returns an owner's data by the owner's name."""
    found = arrays(int(owner.rpartition("-")[2]), width=width)
    is_train = found["split"] == "train"
    return (found["x"][is_train], found["y"][is_train]), (found["x"][~is_train], found["y"][~is_train])


def tree(folder: Path, **changes: Any) -> dict[str, Any]:
    sources = {f"clinic-{i}": {"name": f"clinic-{i}.npz", "root": str(folder)} for i in range(len(SIZES))}
    return {
        "model": {"name": "mlp"},
        "data": {"by_owner": sources},
        "algorithm": {"name": "fedavg"},
        "training": {"rounds": 2, "batch_size": 4, "optimizer": {"name": "sgd", "lr": 0.05}},
        "cluster": {"kind": "local"},
        **changes,
    }


def config(folder: Path, **changes: Any) -> RunConfig:
    return check_config(tree(folder, **changes))


def one_source(folder: Path, **changes: Any) -> dict[str, Any]:
    partition = {"name": "natural_id", "num_owners": len(SIZES)}
    return tree(folder, **changes) | {"data": {"name": "all.npz", "root": str(folder)}, "partition": partition}


def equal(one: raysplit.Result, other: raysplit.Result) -> bool:
    mine, theirs = one.states["global"], other.states["global"]
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
