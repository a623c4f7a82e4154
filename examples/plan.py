"""Choose the cuts of a model for three compute nodes, and predict a round with them.

python examples/plan.py
"""

from __future__ import annotations

from pathlib import Path

import raysplit

TESTBED = Path(__file__).parent / "mpsl_simulate.yaml"


def main() -> None:
    plan = raysplit.plan(TESTBED, algorithm={"units": [2, 34]})
    print(plan)
    for cuts in ((2, 16, 26, 35), plan.cuts):
        result = raysplit.simulate(TESTBED, algorithm={"cuts": cuts})
        print(f"cuts {list(cuts)}: {result.round_s[0]:.0f} s per round")


if __name__ == "__main__":
    main()
