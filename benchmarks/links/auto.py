"""Rounds with each codec that ``links: auto`` can take, and with its choice, over links of several rates.

    python benchmarks/links/auto.py --files FOLDER
    python benchmarks/links/auto.py --files FOLDER --measure auto.jsonl --repeats 3

The first predicts, in minutes. The second trains paced runs, each codec and ``auto`` in turn, and appends a line for
each run to the file; started again, it goes on with what is missing. A round over 1 Mbit/s takes up to 91 s, so all
rates take some hours, in which the machine should do nothing else; ``--rate 10 100`` takes minutes. ``--report`` prints
the table of the file alone. ``FOLDER`` gets the profile of the model and the measures of its codecs, unless `paced.py`
has left them there.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paced import METHODS, append, measure, prepared, read, settings, topology

from raysplit.api import simulate
from raysplit.cluster.codecs import IDENTITY
from raysplit.config.planned_cuts import plan_codecs
from raysplit.config.run import check_config
from raysplit.experiment.links import AUTO
from raysplit.prediction.codecs.choose import CANDIDATES

RATES_MBIT = (1, 10, 100, 1000)
MEASURED_MBIT = (1, 3, 10, 30, 100, 300, 1000, 10_000)
BUDGETS = {"budget_z": 0.01, "budget_g": 0.1}


def shown(codec: Any) -> str:
    return " + ".join(codec) if isinstance(codec, list) else str(codec)


FIXED: dict[str, dict[str, Any]] = {
    shown(codec): {} if codec == IDENTITY else {"smashed": codec, "gradients": codec} for codec in CANDIDATES
}
"""The ``links`` section of each fixed codec, by its name."""


def planned(method: str, described: dict[str, Any]) -> dict[str, Any]:
    """The ``links`` section that ``auto`` takes."""
    return plan_codecs(check_config(settings(method, AUTO, described)), **BUDGETS)[1].links()


def taken(links: dict[str, Any]) -> str:
    """The codecs of a section in a few words."""
    return ", ".join(sorted({shown(codec) for codec in links.values()}) or [IDENTITY])


def predicted_s(method: str, links: Any, described: dict[str, Any]) -> float:
    """The predicted seconds of a round."""
    return simulate(check_config(settings(method, links, described))).round_s[0]


def predict(methods: Sequence[str], rates: Sequence[float], files: tuple[str, str]) -> None:
    """Print the predicted rounds, a line for each method and rate."""
    print(f"| method | Mbit/s | {' | '.join(FIXED)} | auto | takes |")
    print("|---" * (len(FIXED) + 4) + "|")
    for method in methods:
        for rate in rates:
            described = topology(*files, rate)
            plan = planned(method, described)
            cells = [f"{predicted_s(method, links, described):.3f}" for links in (*FIXED.values(), plan)]
            print(f"| {method} | {rate} | {' | '.join(cells)} | {taken(plan)} |", flush=True)


def run_missing(given: argparse.Namespace) -> None:
    """Train what the file lacks: codecs in turn, so that a slow hour slows all of them."""
    files = prepared(given.files)
    done = {(row["repeat"], row["mbit_per_s"], row["method"], row["codec"]) for row in read(given.measure)}
    for repeat in range(given.repeats):
        for rate in given.rate or MEASURED_MBIT:
            for method in given.method:
                described = topology(*files, rate)
                for name, links in {**FIXED, AUTO: planned(method, described)}.items():
                    if (repeat, rate, method, name) not in done:
                        row = measure(method, name, links, described, rounds=given.rounds)
                        append(given.measure, {**row, "repeat": repeat, "takes": taken(links)})


def report(rows: Sequence[dict[str, Any]]) -> str:
    """A Markdown table: medians of the measured rounds, and ``auto`` beside the fastest fixed codec."""
    names = [*FIXED, AUTO]
    text = [
        f"| method | Mbit/s | {' | '.join(names)} | takes | auto / best | spread |",
        "|---" * (len(names) + 5) + "|",
    ]
    for method, rate in sorted({(row["method"], row["mbit_per_s"]) for row in rows}):
        of_cell = [row for row in rows if (row["method"], row["mbit_per_s"]) == (method, rate)]
        found = {name: [row["measured_s"] for row in of_cell if row["codec"] == name] for name in names}
        medians = {name: statistics.median(seconds) for name, seconds in found.items() if seconds}
        spread = max(max(seconds) / min(seconds) - 1 for seconds in found.values() if seconds)
        takes = next((row["takes"] for row in of_cell if row["codec"] == AUTO), "not run")
        best = min((seconds for name, seconds in medians.items() if name != AUTO), default=None)
        ratio = f"{medians[AUTO] / best:.3f}" if best and AUTO in medians else "not run"
        cells = [f"{medians[name]:.3f}" if name in medians else "not run" for name in names]
        text.append(f"| {method} | {rate:g} | {' | '.join(cells)} | {takes} | {ratio} | {spread:.1%} |")
    return "\n".join(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=Path, required=True)
    parser.add_argument("--method", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--rate", nargs="+", type=float, help="Mbit/s of the owners' links")
    parser.add_argument("--measure", type=Path, metavar="FILE", help="train paced runs, and append them to this file")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    if given.measure is None:
        predict(given.method, given.rate or RATES_MBIT, prepared(given.files))
        return
    if not given.report:
        run_missing(given)
    print(report(read(given.measure)))


if __name__ == "__main__":
    main()
