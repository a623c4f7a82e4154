"""Interrupt a run after its second round, and go on to the bits that it would have ended with.

python examples/resume.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

import raysplit


class Interrupted(Exception):
    """Stands for whatever may end a program."""


class Interrupt(raysplit.Callback):
    def round_ended(self, row: dict[str, Any]) -> None:
        if row["round"] == 2:
            raise Interrupted


def main(folder: Path) -> None:
    settings = {"model": "mlp", "partition": {"num_owners": 5}, "training": {"rounds": 4}, "cluster": "local"}
    whole = raysplit.train(**settings)
    try:
        raysplit.train(**settings, folder=folder / "resume", overwrite=True, callbacks=[Interrupt()])
    except Interrupted:
        print("interrupted:", raysplit.load(folder / "resume"))
    resumed = raysplit.resume(folder / "resume")
    print("resumed:", resumed)
    for name, weights in whole.states["global"].items():
        assert torch.equal(weights, resumed.states["global"][name])
    print("the weights are those of a run without interruption, bit for bit")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/python"))
