"""Rounds of MP-SL over links that change, beside links that stay at their mean.

    python benchmarks/mpsl/changing_links.py

Thirty owners of ResNet-101 on Raspberry Pis, two and three nodes, 32 batches each, simulated. The owners' links have 8
Mbit/s on average: all the time, or by a trace that alternates. "Together" has all owners at the same place of the
trace, "in turn" has them spread over it. Prints a Markdown table; virtual times do not depend on the machine.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from raysplit.api import simulate
from raysplit.config.run import check_config

OWNERS, CUTS = 30, ([2, 26, 35], [2, 16, 26, 35])
PERIODS_S = (20, 200, 2000)
SHARES = {"12 and 4": (12, 4), "15 and 1": (15, 1), "16 and 0": (16, 0)}


def minutes(cuts: list[int], queue: str, link: dict[str, Any]) -> float:
    """Simulate a round."""
    config = {
        "model": {"name": "resnet101_mpsl"},
        "partition": {"name": "iid", "num_owners": OWNERS},
        "algorithm": {"name": "mpsl", "cuts": cuts, "queue": queue},
        "training": {"batch_size": 128, "local_epochs": 2},
        "topology": {
            "devices": {
                "pi": {"profile": "resnet101_mpsl_d1", **link},
                "vm": {"profile": "resnet101_mpsl_vm", "bandwidth_mbit_per_s": 7130},
            },
            "owners": "pi",
            "nodes": ["vm"] * (len(cuts) - 1),
            "aggregator": "vm",
            "samples_per_owner": 16 * 128,
        },
    }
    return simulate(check_config(config)).round_s[0] / 60


def main() -> None:
    """Print the table."""
    columns = [(cuts, queue) for cuts in CUTS for queue in ("fifo", "fair")]
    print(f"| owner's Mbit/s | {' | '.join(f'{len(cuts) - 1} nodes, {queue} min' for cuts, queue in columns)} |")
    print(f"| --- | {'--- | ' * len(columns)}")
    steady = [minutes(cuts, queue, {"bandwidth_mbit_per_s": 8}) for cuts, queue in columns]
    print(f"| 8 | {' | '.join(f'{found:.2f}' for found in steady)} |")
    with TemporaryDirectory() as folder:
        for name, rates in SHARES.items():
            for period_s in PERIODS_S:
                path = Path(folder, "link.csv")
                rows = [f"{i * period_s / 2},{rate}" for i, rate in enumerate(rates)]
                path.write_text("\n".join(["seconds,bandwidth_mbit_per_s", *rows]))
                for how, shift_s in (("together", 0.0), ("in turn", period_s / OWNERS)):
                    link = {"trace": str(path), "trace_repeat_s": period_s, "trace_shift_s": shift_s}
                    found = [minutes(cuts, queue, link) for cuts, queue in columns]
                    cells = [f"{m:.2f} ({m / s - 1:+.0%})" for m, s in zip(found, steady, strict=True)]
                    print(f"| {name}, {period_s / 2:g} s each, {how} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
