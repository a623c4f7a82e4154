"""The tables and the figure of the README out of the folders that `run.py` has left.

    python benchmarks/mas/report.py runs/mas

Losses are total test losses at the end, hours those of all owners' devices: training, affinities and both.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pyarrow.parquet as pq

from raysplit.schedulers.energy import fit_task_cost
from raysplit.schedulers.grouping.files import read_history
from raysplit.schedulers.grouping.scores import Affinity, exact_x, mean_affinity

EVERY = 5  # batches between two measurements, as in run.py
PAPER = {  # total test loss and GPU hours, read off the figure published with the authors' code; five Taskonomy tasks
    "all_in_one": (0.677, 7.3),
    "gradnorm": (0.691, 7.8),
    "fedprox": (0.711, 7.7),
    "one_by_one": (0.603, 16.9),
    "tag-2": (0.624, 17.4),
    "tag-3": (0.613, 20.6),
    "tag-4": (0.603, 25.2),
    "hoa-2": (0.650, 63.0),
    "mas-2": (0.577, 8.8),
    "mas-3": (0.555, 9.8),
    "mas-4": (0.548, 12.8),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished run."""

    name: str
    seed: int
    folder: Path
    loss: float
    training_s: float
    affinity_s: float
    kwh: float
    groups: tuple[tuple[str, ...], ...]
    charges: tuple[Mapping[str, Any], ...]

    @property
    def total_s(self) -> float:
        return self.training_s + self.affinity_s


def read(root: Path) -> list[Run]:
    """All runs below ``root``."""
    found = []
    for summary in sorted(root.glob("*-seed*/summary.json")):
        matched = re.fullmatch(r"(.+)-seed(\d+)", summary.parent.name)
        assert matched is not None
        content = json.loads(summary.read_text())
        charges = pq.read_table(summary.parent / "charges.parquet").to_pylist()
        found.append(
            Run(
                name=matched[1],
                seed=int(matched[2]),
                folder=summary.parent,
                loss=content["last"]["test_loss"],
                training_s=sum(charge["training_s"] for charge in charges),
                affinity_s=sum(charge["affinity_s"] for charge in charges),
                kwh=content["spent"]["kwh"],
                groups=tuple(map(tuple, content["groups"])),
                charges=tuple(charges),
            )
        )
    return found


def by_name(runs: Sequence[Run]) -> dict[str, list[Run]]:
    names = defaultdict(list)
    for run in runs:
        names[run.name].append(run)
    return dict(names)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation over seeds."""
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def print_methods(runs: Mapping[str, list[Run]]) -> None:
    whole = mean(run.total_s for run in runs["all_in_one"]) if "all_in_one" in runs else None
    print("| run | seeds | total test loss | device min | with affinities | x all in one | paper loss | paper x |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, those in runs.items():
        ratio = f"{mean(run.total_s for run in those) / whole:.2f}" if whole else ""
        paper = f"{PAPER[name][0]:.3f} | {PAPER[name][1] / PAPER['all_in_one'][1]:.2f}" if name in PAPER else " | "
        minutes = f"{mean(run.training_s for run in those) / 60:.2f} | {mean(run.total_s for run in those) / 60:.2f}"
        print(f"| {name} | {len(those)} | {spread([r.loss for r in those])} | {minutes} | {ratio} | {paper} |")


def print_targets(runs: Mapping[str, list[Run]]) -> None:
    """Pairs of runs whose order the paper predicts: loss and time by seed."""
    pairs = [("mas-2", "all_in_one"), ("mas-2", "one_by_one"), ("mas-3", "one_by_one"), ("mas-4", "one_by_one")]
    pairs += [("mas-3", "mas-2"), ("mas-4", "mas-3"), ("mas-2", "tag-2"), ("mas-2", "hoa-2")]
    pairs += [("mas-2", f"mas-2-{other}") for other in ("random", "worst", "scratch", "encoder")]
    print(
        "\n| first | second | loss, first / second | seeds with the first lower | time, second / first | energy saved |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for first, second in pairs:
        if first not in runs or second not in runs:
            continue
        ours, theirs = ({run.seed: run for run in runs[name]} for name in (first, second))
        seeds = sorted(ours.keys() & theirs.keys())
        lower = sum(ours[seed].loss < theirs[seed].loss for seed in seeds)
        loss = mean(ours[seed].loss / theirs[seed].loss for seed in seeds)
        faster = mean(theirs[seed].total_s / ours[seed].total_s for seed in seeds)
        saved = mean(1 - ours[seed].kwh / theirs[seed].kwh for seed in seeds)
        print(f"| {first} | {second} | {loss:.3f} | {lower} of {len(seeds)} | {faster:.2f} | {100 * saved:.0f} % |")


def print_model(runs: Mapping[str, list[Run]]) -> None:
    """The two-parameter model fitted to the one-by-one and all-in-one runs, beside what others took."""
    if "one_by_one" not in runs or "all_in_one" not in runs:
        return
    whole = runs["all_in_one"]
    num_tasks = len(whole[0].groups[0])
    alone = mean(run.training_s for run in runs["one_by_one"]) / num_tasks
    cost = fit_task_cost({1: alone, num_tasks: mean(run.training_s for run in whole)})
    steps = sum(charge["steps"] for charge in whole[0].charges)
    print(f"\nT(m) = {cost.encoder_hours:.1f} s + {cost.decoder_hours:.1f} s m\n")
    print("| run | modelled training s | measured | affinity s | share of the merged training | modelled share |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, those in runs.items():
        expected = (
            mean(sum(cost.hours(charge["num_tasks"]) * charge["steps"] for charge in run.charges) for run in those)
            / steps
        )
        measured = [charge for run in those for charge in run.charges if charge["affinity_s"]]
        share = sum(c["affinity_s"] for c in measured) / sum(c["training_s"] for c in measured) if measured else 0.0
        modelled = _looks(measured) * cost.affinity_overhead(num_tasks, 1) if measured else 0.0
        row = f"{mean(r.training_s for r in those):.1f} | {mean(r.affinity_s for r in those):.1f}"
        print(f"| {name} | {expected:.1f} | {row} | {100 * share:.0f} % | {100 * modelled:.0f} % |")


def _looks(charges: Sequence[Mapping[str, Any]]) -> float:
    """The share of batches that were measured: in each round the first and every fifth after it."""
    return sum(ceil(charge["steps"] / EVERY) for charge in charges) / sum(charge["steps"] for charge in charges)


def print_stability(runs: Mapping[str, list[Run]], num_groups: int = 2) -> None:
    """The groups chosen from few rounds, from all merged rounds, and by each owner's affinities alone."""
    print("\n| run | from the first third | from all merged rounds | owners that would choose the same |")
    print("| --- | --- | --- | --- |")
    for run in runs.get("mas-2", []):
        history = read_history(run.folder)
        chosen = exact_x(mean_affinity(history), num_groups).groups
        early = exact_x(mean_affinity(history[: max(1, len(history) // 3)]), num_groups).groups
        own = _own_affinities(run.folder)
        agreeing = sum(exact_x(affinity, num_groups).groups == chosen for affinity in own)
        print(f"| {run.folder.name} | {_text(early)} | {_text(chosen)} | {agreeing} of {len(own)} |")


def _own_affinities(folder: Path) -> list[Affinity]:
    lines = pq.read_table(folder / "owner_affinities.parquet").to_pylist()
    tasks = tuple(dict.fromkeys(line["source"] for line in lines))
    found = []
    for owner in sorted({line["owner"] for line in lines}):
        cells = defaultdict(list)
        for line in lines:
            if line["owner"] == owner:
                cells[line["source"], line["recipient"]].append(line["value"])
        rows = tuple(tuple(mean(cells[source, other]) for other in tasks) for source in tasks)
        found.append(Affinity(tasks=tasks, values=rows))
    return found


def _text(groups: Sequence[Sequence[str]]) -> str:
    return " ".join("{" + "".join(group) + "}" for group in groups)


def draw(runs: Mapping[str, list[Run]], path: Path) -> None:
    """Loss against time, both relative to all-in-one training: our points filled, the paper's hollow."""
    base = runs["all_in_one"]
    loss, seconds = mean(run.loss for run in base), mean(run.total_s for run in base)
    figure, axes = plt.subplots(figsize=(8, 5))
    for number, (name, (paper_loss, paper_hours)) in enumerate(PAPER.items()):
        colour = plt.get_cmap("tab20")(number)
        paper = (paper_hours / PAPER["all_in_one"][1], paper_loss / PAPER["all_in_one"][0])
        axes.scatter(*paper, facecolors="none", edgecolors=[colour])
        axes.annotate(name, paper, xytext=(5, 4), textcoords="offset points", fontsize=8, color="grey")
        if name in runs:
            those = runs[name]
            x, y = mean(run.total_s for run in those) / seconds, mean(run.loss for run in those) / loss
            axes.scatter(x, y, color=[colour])
            axes.annotate(name, (x, y), xytext=(5, 4 if number % 2 else -11), textcoords="offset points", fontsize=8)
    axes.set(xlabel="device time / all in one", ylabel="total test loss / all in one", xscale="log")
    axes.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"], minor=False)
    axes.minorticks_off()
    axes.set_title("black, filled: here; grey, hollow: paper", fontsize=10)
    figure.tight_layout()
    figure.savefig(path)
    print(f"\nfigure: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("--figure", type=Path, help="loss against time; ROOT/loss-time.svg by default")
    arguments = parser.parse_args()
    runs = by_name(read(arguments.root))
    print_methods(runs)
    print_targets(runs)
    print_model(runs)
    print_stability(runs)
    if "all_in_one" in runs:
        draw(runs, arguments.figure or arguments.root / "loss-time.svg")


if __name__ == "__main__":
    main()
