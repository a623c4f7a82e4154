"""Predicted rounds with each codec that ``links: auto`` can take, and with its choice, over links of several rates.

    python benchmarks/links/auto.py --files FOLDER

``FOLDER`` gets the profile of the model and the measures of its codecs, unless `paced.py` has left them there.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from paced import METHODS, prepared, settings, topology

from raysplit.api import simulate
from raysplit.cluster.codecs import IDENTITY
from raysplit.config.planned_cuts import plan_codecs
from raysplit.config.run import check_config
from raysplit.experiment.links import AUTO
from raysplit.prediction.codecs.choose import CANDIDATES

RATES_MBIT = (1, 10, 100, 1000)


def shown(codec: Any) -> str:
    return " + ".join(codec) if isinstance(codec, list) else str(codec)


def predicted_s(method: str, links: Any, described: dict[str, Any]) -> float:
    """The predicted seconds of a round."""
    return simulate(check_config(settings(method, links, described))).round_s[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--method", nargs="+", choices=METHODS, default=METHODS)
    given = parser.parse_args()
    files = prepared(given.files)
    print(f"| method | Mbit/s | {' | '.join(map(shown, CANDIDATES))} | auto | takes |")
    print("|---" * (len(CANDIDATES) + 4) + "|")
    for method in given.method:
        for rate in RATES_MBIT:
            described = topology(*files, rate)
            fixed = [{} if codec == IDENTITY else {"smashed": codec, "gradients": codec} for codec in CANDIDATES]
            found = [predicted_s(method, links, described) for links in fixed]
            plan = plan_codecs(check_config(settings(method, AUTO, described)), budget_z=0.01, budget_g=0.1)[1].links()
            taken = sorted({shown(codec) for codec in plan.values()}) or [IDENTITY]
            cells = [f"{seconds:.3f}" for seconds in (*found, predicted_s(method, plan, described))]
            print(f"| {method} | {rate} | {' | '.join(cells)} | {', '.join(taken)} |", flush=True)


if __name__ == "__main__":
    main()
