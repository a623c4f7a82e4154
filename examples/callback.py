"""Look on while a run goes, and stop it when it has learned enough.

python examples/callback.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import raysplit


class Enough(Exception):
    """The accuracy is good enough."""


class Watcher(raysplit.Callback):
    """Prints every evaluation; ends the run at an accuracy."""

    def __init__(self, accuracy: float) -> None:
        self.accuracy = accuracy

    def run_started(self, experiment: raysplit.Experiment) -> None:
        print(experiment.algorithm.title, "with", len(experiment.setting.owners), "owners")

    def evaluated(self, row: dict[str, Any]) -> None:
        print(f"round {row['round']}: accuracy {row['test_accuracy']:.1%}")
        if row["test_accuracy"] >= self.accuracy:
            raise Enough

    def checkpoint_kept(self, rounds: int, location: str) -> None:
        print(f"round {rounds} is kept below {location}")

    def run_failed(self, error: BaseException) -> None:
        print("stopped by", type(error).__name__)


def main(folder: Path) -> None:
    try:
        raysplit.train(
            model="mlp",
            partition={"num_owners": 5},
            training={"rounds": 20, "optimizer": {"lr": 0.1}},
            cluster="local",
            folder=folder / "callback",
            overwrite=True,
            callbacks=[Watcher(0.7)],
        )
    except Enough:
        print(raysplit.load(folder / "callback"))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/python"))
