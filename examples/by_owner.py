"""Train across three owners that each read a file of their own; the coordinator sees types, shapes and counts only.

python examples/by_owner.py [FOLDER [ray]]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import raysplit


def write(folder: Path) -> list[str]:
    """Write a file for each owner, as the owners would have them: pictures x, digits y, every fourth for the test."""
    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    names = ["north", "south", "west"]
    for number, name in enumerate(names):
        x = digits.images[number::3].astype(np.float32)[:, None] / 16
        split = np.where(np.arange(len(x)) % 4 == 0, "test", "train")
        np.savez(folder / f"{name}.npz", x=x, y=digits.target[number::3], split=split)
    return names


def main(folder: Path, cluster: str = "local") -> None:
    data = (folder / "by_owner_data").absolute()
    sources = {name: {"name": f"{name}.npz", "root": str(data)} for name in write(data)}
    result = raysplit.train(
        model="mlp",
        data={"by_owner": sources},
        algorithm={"name": "minibatch_sfl", "cut": 1},
        training={"rounds": 5, "optimizer": {"lr": 0.1}},
        cluster=cluster,
        folder=folder / "by_owner",
        overwrite=True,
    )
    print(result)


if __name__ == "__main__":  # a second argument: ray
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/python"), *sys.argv[2:])
