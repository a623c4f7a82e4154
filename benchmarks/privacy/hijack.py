"""What a malicious server reconstructs (feature-space hijacking), and whether the owner's alarm stops it.

    python benchmarks/privacy/hijack.py --output hijack.jsonl
    python benchmarks/privacy/hijack.py --output hijack.jsonl --report

One line for each run, appended as it ends; started again, it goes on with what is missing. Digits, ``cnn8``, one owner,
35 epochs of batches of 32, as in ``examples/fsha_digits.yaml``. The alarm is tried on such runs, and on honest ones.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from leakage import read

import raysplit
from raysplit.config.run import check_config, load_config
from raysplit.guards.alarm import AlarmRaised
from raysplit.privacy.leak.outcome import rounded
from raysplit.privacy.leak.run import one_thread

EXAMPLES = Path(__file__).parents[2] / "examples"
RULES: dict[str, dict[str, Any]] = {
    "adam 0.001": {"name": "adam", "lr": 0.001},
    "sgd 0.02": {"name": "sgd", "lr": 0.02},
}
SCALES = (1.0, 0.1, 0.01)
ROUNDS_OF_ALARM = 3
HONEST = "honest"


def cells(seeds: list[int]) -> Iterator[dict[str, Any]]:
    """The runs: reconstructions for three seeds, alarms for all."""
    for seed in seeds:
        for cut, rule, scale in itertools.product((2, 3), RULES, SCALES):
            if seed < 3 and (cut == 2 or (rule == "adam 0.001" and scale == 1.0)):
                yield {"kind": "attack", "cut": cut, "rule": rule, "scale": scale, "seed": seed}
        for scale in (*SCALES, HONEST):
            yield {"kind": "alarm", "cut": 2, "rule": "adam 0.001", "scale": scale, "seed": seed}


def settings(cell: dict[str, Any]) -> dict[str, Any]:
    """The settings of a run."""
    config = load_config(EXAMPLES / "fsha_digits.yaml").model_dump(mode="json", exclude_unset=True)
    is_alarm = cell["kind"] == "alarm"
    config["seed"] = cell["seed"]
    config["training"] |= {"optimizer": RULES[cell["rule"]]} | ({"rounds": ROUNDS_OF_ALARM} if is_alarm else {})
    honest = {"name": "splitnn", "cut": cell["cut"]}
    hijacked = {"name": "fsha:Hijacking", "cut": cell["cut"], "scale": cell["scale"]}
    config["algorithm"] = honest if cell["scale"] == HONEST else hijacked
    config["privacy"] = {"alarm": is_alarm}
    return config


def measure(cell: dict[str, Any]) -> dict[str, Any]:
    """Train once."""
    with one_thread():
        try:
            row = raysplit.train(check_config(settings(cell))).rows[-1]
        except AlarmRaised as error:
            return {**cell, "stopped": str(error).splitlines()[0]}
    figures = {name: row[name] for name in row if name.startswith("hijack_")}
    return rounded({**cell, **figures, "accuracy": row["test_accuracy"]})


def report(rows: list[dict[str, Any]]) -> str:
    """Markdown tables: medians, and how many runs the alarm stopped."""
    text = ["| cut | owner's rule | scale | ssim (of each seed) | chance | accuracy |", "|---|---|---|---|---|---|"]
    attacks = [row for row in rows if row["kind"] == "attack"]
    for cut, rule, scale in dict.fromkeys((row["cut"], row["rule"], row["scale"]) for row in attacks):
        same = [row for row in attacks if (row["cut"], row["rule"], row["scale"]) == (cut, rule, scale)]
        of = {name: [row[name] for row in same] for name in ("hijack_ssim", "hijack_ssim_chance", "accuracy")}
        seen = ", ".join(f"{value:.3f}" for value in of["hijack_ssim"])
        text.append(
            f"| {cut} | {rule} | {scale:g} | {median(of['hijack_ssim']):.3f} ({seen}) | "
            f"{median(of['hijack_ssim_chance']):.3f} | {median(of['accuracy']):.3f} |"
        )
    text += ["", "| server | runs | stopped by the alarm |", "|---|---|---|"]
    alarms = [row for row in rows if row["kind"] == "alarm"]
    for scale in dict.fromkeys(row["scale"] for row in alarms):
        same = [row for row in alarms if row["scale"] == scale]
        server = HONEST if scale == HONEST else f"hijacking, scale {scale:g}"
        text.append(f"| {server} | {len(same)} | {sum('stopped' in row for row in same)} |")
    return "\n".join(text)


def main() -> None:
    """Measure what is missing, or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    if given.report:
        print(report(read(given.output)))
        return
    sys.path.insert(0, str(EXAMPLES))
    keys = ("kind", "cut", "rule", "scale", "seed")
    done = [tuple(row[key] for key in keys) for row in read(given.output)]
    for cell in cells(given.seeds):
        if tuple(cell.values()) not in done:
            row = measure(cell)
            with given.output.open("a") as file:
                file.write(f"{json.dumps(row)}\n")


if __name__ == "__main__":
    main()
