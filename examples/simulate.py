"""Predict rounds of MP-SL on the Raspberry Pis and virtual machines of its paper, without computing.

python examples/simulate.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import raysplit

TESTBED = Path(__file__).parent / "mpsl_simulate.yaml"


def main(folder: Path) -> None:
    for num_owners in (5, 10, 20):
        result = raysplit.simulate(TESTBED, partition={"num_owners": num_owners})
        busiest = result.timeline.bottleneck()
        assert busiest is not None
        print(
            f"{num_owners} owners: {result.round_s[0]:.0f} s, {busiest.device} is busy {busiest.utilisation:.0%} of it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    result.timeline.write_trace(folder / "timeline.json")
    print("to look at in ui.perfetto.dev:", folder / "timeline.json")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/python"))
