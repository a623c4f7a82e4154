"""Run every combination of some settings; called again, it runs what has not finished yet.

python examples/sweep.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import raysplit


def main(folder: Path) -> None:
    result = raysplit.sweep(
        model="mlp",
        partition={"name": "dirichlet", "num_owners": 5},
        training={"rounds": 3, "optimizer": {"lr": 0.1}},
        cluster="local",
        over={"partition.alpha": [0.1, 1], "seed": [0, 1]},
        folder=folder / "sweep",
        target=0.5,
    )
    print(result)
    print("failed:", dict(result.failed))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/python"))
