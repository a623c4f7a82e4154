"""Compare two algorithms: what each reached, and what it took.

python examples/compare.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import raysplit


def main(folder: Path) -> None:
    for name in ("minibatch_sfl", "fedavg"):
        raysplit.train(
            model="mlp",
            partition={"num_owners": 5},
            algorithm=name,
            training={"rounds": 5, "optimizer": {"lr": 0.1}},
            cluster="local",
            folder=folder / "compare" / name,
            overwrite=True,
        )

    comparison = raysplit.compare([folder / "compare" / "minibatch_sfl", folder / "compare" / "fedavg"])
    print(comparison)
    print("to 60 % accuracy:", *comparison.reached(0.6).to_pylist(), sep="\n    ")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/python"))
