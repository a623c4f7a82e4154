"""Train across ten data owners, and read what came of it.

python examples/train.py [FOLDER [ray]]
"""

from __future__ import annotations

import sys
from pathlib import Path

import raysplit


def main(folder: Path, cluster: str = "local") -> None:
    result = raysplit.train(
        model="mlp",
        data="digits",
        partition={"name": "dirichlet", "num_owners": 10, "alpha": 0.3},
        algorithm={"name": "minibatch_sfl", "cut": 1},
        training={"rounds": 5, "optimizer": {"lr": 0.1}},
        cluster=cluster,
        folder=folder / "train",
        overwrite=True,
    )
    print(result)
    print("accuracy by round:", [round(value, 3) for value in result.metrics["test_accuracy"].to_pylist()])
    print(
        "bytes that left the owners:", sum(link.num_bytes for link in result.links if link.source.startswith("owner"))
    )
    print(result.model())


if __name__ == "__main__":  # a second argument: ray
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/python"), *sys.argv[2:])
