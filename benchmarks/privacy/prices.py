"""Accuracy, bytes and processor time of training with guards, and what an attack gets: one line for each run.

    python benchmarks/privacy/prices.py --output prices.jsonl
    python benchmarks/privacy/prices.py --output prices.jsonl --report

Started again, it goes on with what is missing. All runs of a seed have the same data, weights and batches. Guards
draw from the seed (``privacy.rehearsal``), so that anybody can repeat a run. The attack is the decoder of the present
weights, trained on what the guard lets through, and ridge regression where that is better.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

from leakage import attackable, read

import raysplit
from raysplit.attacks.pace import Pace
from raysplit.config.run import check_config
from raysplit.guards.account.totals import accounts_in
from raysplit.privacy.leak import inversions
from raysplit.privacy.leak.outcome import rounded
from raysplit.privacy.leak.run import one_thread

NONE = "none"


def gaussian(s: float) -> dict[str, Any]:
    """Noise of ``s`` sensitivities on rows that are clipped to 4."""
    return {"clip": 4, "noise": 2 * s}


GUARDS: dict[str, dict[str, Any]] = {
    NONE: {},
    **{f"noise {x:g} of std(z)": {"z": {"noise": x}} for x in (0.5, 1, 2)},
    **{f"clip 4, s {s:g}": {"z": gaussian(s)} for s in (0.05, 0.1, 0.25)},
    **{f"projection {k}": {"project": k} for k in (64, 16, 8)},
    **{f"projection 16, clip 4, s {s:g}": {"project": 16, "z": gaussian(s)} for s in (0.1, 0.25, 0.6)},
    **{f"dropout {p:g}": {"dropout": p} for p in (0.25, 0.5, 0.9)},
    **{f"NoPeek {a:g}": {"nopeek": a} for a in (0.1, 0.5, 0.9)},
    **{f"labels, epsilon {e:g}": {"labels": {"epsilon": e}} for e in (4, 2, 1)},
    **{f"labels, epsilon {e:g}, uncorrected": {"labels": {"epsilon": e, "corrected": False}} for e in (4, 2, 1)},
    **{f"DP-SGD, noise {n:g}": {"weights": {"clip": 0.5, "noise": n}} for n in (0.5, 1, 4)},
}
CODECS: dict[str, Any] = {"int8": "int8", "int4": "int4", "int2": {"codec": "int2"}}


def settings(seed: int) -> dict[str, Any]:
    """The settings of a run without guards: digits, cnn8, cut 2."""
    return {
        "seed": seed,
        "model": {"name": "cnn8"},
        "data": {"name": "digits"},
        "partition": {"num_owners": 2},
        "algorithm": {"name": "splitnn", "cut": 2},
        "training": {"rounds": 15, "batch_size": 32, "optimizer": {"lr": 0.02, "momentum": 0.9}},
        "evaluation": {"every": 15},
        "reliability": {"checkpoint_every": None},
        "cluster": {"kind": "local"},
    }


def measure(guard: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train once, and attack."""
    rules = GUARDS.get(guard, {})
    privacy = rules and {**rules, "rehearsal": True, "ledger": str(folder / f"{guard}-{seed}")}
    links = {"smashed": CODECS[guard]} if guard in CODECS else {}
    began = time.process_time()
    try:
        given, result = attackable(check_config(settings(seed) | {"privacy": privacy, "links": links}))
    except (raysplit.BadValue, raysplit.NonFiniteLoss) as error:
        return {"guard": guard, "seed": seed, "diverged": str(error).splitlines()[0]}
    cpu_s = time.process_time() - began
    scene = given.scene(given.sight.views[0])
    with one_thread():
        decoder = inversions.inverted(scene, "present", Pace()).row
        ridge = inversions.inverted_affinely(scene, "present", Pace()).row
    accounts = accounts_in(Path(privacy["ledger"])) if privacy else []
    row, kinds = result.rows[-1], {}
    for link in result.links:
        for kind, num_bytes, _ in link.kinds:
            kinds[kind] = kinds.get(kind, 0) + num_bytes
    return {
        "guard": guard,
        "seed": seed,
        "accuracy": row["test_accuracy"],
        "accuracy_without": row.get("test_accuracy_uncoded"),
        "bytes_at_cut": kinds.get("smashed", 0) + kinds.get("gradients", 0),
        "cpu_s": cpu_s,
        "epsilon": max((account.total(1e-5).epsilon for account in accounts), default=0.0),
        "ssim": decoder["ssim"],
        "ssim_ridge": ridge["ssim"],
        "ssim_chance": decoder["ssim_chance"],
        "nmse": decoder["nmse"],
    }


def report(rows: list[dict[str, Any]]) -> str:
    """A Markdown table: medians over seeds."""
    plain = {row["seed"]: row for row in rows if row["guard"] == NONE}
    text = [
        "| guard | accuracy | without it in evaluation | decoder's ssim | ridge | bytes x | CPU x | epsilon |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for guard in dict.fromkeys(row["guard"] for row in rows):
        of_guard = [row for row in rows if row["guard"] == guard and row["seed"] in plain]
        runs = [row for row in of_guard if "diverged" not in row]
        lost = f" ({len(of_guard) - len(runs)} diverged)" if len(of_guard) > len(runs) else ""
        if not runs:
            text.append(f"| {guard}{lost} | | | | | | | |")
            continue
        without = [row["accuracy_without"] for row in runs if row["accuracy_without"] is not None]
        sent = median(row["bytes_at_cut"] / plain[row["seed"]]["bytes_at_cut"] for row in runs)
        spent = [
            row["cpu_s"] / plain[row["seed"]]["cpu_s"]
            for row in runs
            if "cpu_s" in row and "cpu_s" in plain[row["seed"]]
        ]
        epsilon = median(row["epsilon"] for row in runs)
        text.append(
            f"| {guard}{lost} | {median(row['accuracy'] for row in runs):.3f} | "
            f"{f'{median(without):.3f}' if without else ''} | "
            f"{median(row['ssim'] for row in runs):.3f} | {median(row['ssim_ridge'] for row in runs):.3f} | "
            f"{sent:.3f} | {f'{median(spent):.2f}' if spent else ''} | {f'{epsilon:.3g}' if epsilon else ''} |"
        )
    return "\n".join(text)


def main() -> None:
    """Measure what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--guards", nargs="+", choices=[*GUARDS, *CODECS], default=[*GUARDS, *CODECS])
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    if given.report:
        print(report(read(given.output)))
        return
    done = {(row["guard"], row["seed"]) for row in read(given.output)}
    ledgers = given.output.parent / "ledgers"
    for seed in given.seeds:
        for guard in given.guards:
            if (guard, seed) not in done:
                with given.output.open("a") as file:
                    file.write(f"{json.dumps(rounded(measure(guard, seed, ledgers)))}\n")


if __name__ == "__main__":
    main()
