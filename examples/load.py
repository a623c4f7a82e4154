"""Load a run from its folder, and use the trained model.

python examples/load.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import raysplit


def main(folder: Path) -> None:
    raysplit.train(model="mlp", training={"rounds": 3}, cluster="local", folder=folder / "load", overwrite=True)

    result = raysplit.load(folder / "load")
    print(result)
    print(result.metrics.select(["round", "train_loss", "test_accuracy"]).to_pylist())
    model = result.model()
    pictures = torch.rand(2, 1, 8, 8)  # in [0, 1], as digits are
    print("classes of two random pictures:", model(pictures).argmax(dim=1).tolist())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/python"))
