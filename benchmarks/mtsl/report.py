"""The tables of this benchmark's README, in Markdown, and its picture (mnist.png) from the runs that run.py left.

python benchmarks/mtsl/report.py --data-root DATA --out runs/mtsl
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from run import SEEDS, experiments

from raysplit.actors.evaluator import evaluate
from raysplit.actors.parts.losses import resolve_loss
from raysplit.cli.pictures.sweep import draw_sweep
from raysplit.config.build import build
from raysplit.config.run import load_config
from raysplit.experiment.experiment import Experiment
from raysplit.runs.report_page import markdown_table
from raysplit.seeding import derive
from raysplit.sweeps.report import Group, Spread, percent, read_groups
from raysplit.sweeps.sweep import cells

TITLES = {
    "mtsl": "MTSL",
    "local": "local only",
    "fedavg": "FedAvg",
    "fedprox": "FedProx",
    "fedem": "FedEM (K = 3)",
    "minibatch_sfl": "SplitFed, shared top",
}
ALPHA, METHOD = "partition.alpha", "algorithm.name"


class Results:
    """The finished runs of every experiment."""

    def __init__(self, root: str, out: Path) -> None:
        self.out = out
        self._experiments = experiments(root)
        self._groups = {name: read_groups(cells(*e), out / name) for name, e in self._experiments.items()}

    def groups(self, experiment: str) -> list[Group]:
        return self._groups[experiment]

    def group(self, experiment: str, **wanted: Any) -> Group | None:
        """The group with these values; keys are given by their last word."""
        for group in self._groups[experiment]:
            values = {key.rpartition(".")[2]: value for key, value in group.values.items()}
            if group.runs and all(values.get(key) == value for key, value in wanted.items()):
                return group
        return None

    def method(self, name: str, alpha: float) -> Group | None:
        """A method on MNIST at the common rate."""
        if name in ("fedem", "fedprox"):
            return self.group(name, alpha=alpha)
        return self.group("mnist", alpha=alpha, name=name)


def last(group: Group | None) -> Spread | None:
    return group.accuracy if group else None


def at_step(group: Group | None, step: int) -> Spread | None:
    """Accuracy after so many steps."""
    if group is None:
        return None
    return Spread.of([row["test_accuracy"] for run in group.runs for row in run if row["steps_total"] == step])


def print_table(title: str, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    print(f"\n### {title}\n\n{markdown_table(columns, lines)}\n")


def accuracy_tables(results: Results) -> None:
    methods = ("mtsl", "local", "fedavg", "fedprox", "minibatch_sfl", "fedem")
    lines = []
    for alpha in (0.0, 0.1, 0.3, 1.0):
        mtsl = results.method("mtsl", alpha)
        control = mtsl.last("majority_accuracy") if mtsl else None
        line = [f"{alpha:g}", f"{100 * control.mean:.1f}" if control else "–"]
        lines.append(line + [percent(last(results.method(name, alpha))) for name in methods])
    print_table("MNIST, after 1,000 steps", ["α", "majority label", *(TITLES[m] for m in methods)], lines)
    lines = []
    for alpha in (0.0, 0.1, 0.3, 1.0):
        groups = [results.method(name, alpha) for name in methods]
        lines.append([f"{alpha:g}", *(percent(g.last("min_accuracy") if g else None) for g in groups)])
    print_table("MNIST, the worst owner after 1,000 steps", ["α", *(TITLES[m] for m in methods)], lines)
    methods = ("mtsl", "local", "fedavg")
    lines = []
    for alpha in (0.1, 1.0):
        groups = [results.group("fashion", alpha=alpha, name=name) for name in methods]
        control = groups[0].last("majority_accuracy") if groups[0] else None
        shown = f"{100 * control.mean:.1f}" if control else "–"
        lines.append([f"{alpha:g}", shown, *(percent(last(g)) for g in groups)])
    print_table("Fashion-MNIST, after 500 steps", ["α", "majority label", *(TITLES[m] for m in methods)], lines)


def speed_table(results: Results, alpha: float = 0.3, target: float = 0.9) -> None:
    """Steps, synchronisations and bytes; every MTSL step is a synchronisation, a federated one comes after 20."""
    rows: list[tuple[str, Group | None, int]] = [
        ("MTSL, common rate 0.1", results.method("mtsl", alpha), 1),
        ("MTSL, server rate 0.3", results.group("server_rate", alpha=alpha, learning_rates={"server": 0.3}), 1),
        ("MTSL, measured rates", results.group("server_rate", alpha=alpha, learning_rates="auto"), 1),
        ("local only, 0.1", results.method("local", alpha), 0),
        ("FedAvg, 0.1", results.method("fedavg", alpha), 20),
        ("FedAvg, 0.3", results.group("best_rate", name="fedavg"), 20),
        ("SplitFed shared top, 0.1", results.method("minibatch_sfl", alpha), 1),
        ("SplitFed shared top, 0.3", results.group("best_rate", name="minibatch_sfl"), 1),
    ]
    lines = []
    for name, group, steps_between in rows:
        steps = group.to_target("steps_to_target", target) if group else None
        sent = group.to_target("bytes_to_target", target) if group else None
        if steps is None or sent is None or group is None:
            lines.append([name, "never", "–", "–", percent(last(group))])
            continue
        synchronisations = f"{steps.mean / steps_between:.0f}" if steps_between else "0"
        reached = "" if steps.count == len(group.runs) else f" ({steps.count} of {len(group.runs)})"
        line = [name, f"{steps.mean:.0f} ± {steps.sd:.0f}{reached}", synchronisations, f"{sent.mean / 2**20:.1f}"]
        lines.append([*line, percent(last(group))])
    columns = ["method, rate", f"steps to {target:.0%}", "synchronisations", "MiB", "after 1,000 steps"]
    print_table(f"MNIST at α = {alpha:g}: what {target:.0%} takes", columns, lines)


def rate_table(results: Results) -> None:
    lines = []
    for alpha in (0.1, 0.3):
        for server in (0.03, 0.3):
            group = results.group("slow_bottoms", alpha=alpha, learning_rates={"server": server})
            rate = f"{server:g}{' (common)' if server == 0.03 else ''}"
            lines.append([f"{alpha:g}", "0.03", rate, *accuracies_on_the_way(group)])
    for alpha in (0.1, 0.3):
        rows: list[tuple[str, Group | None]] = [
            ("0.01", results.group("server_rate", alpha=alpha, learning_rates={"server": 0.01})),
            ("0.1 (common)", results.method("mtsl", alpha)),
            ("0.3", results.group("server_rate", alpha=alpha, learning_rates={"server": 0.3})),
            ("1.0", results.group("server_rate", alpha=alpha, learning_rates={"server": 1.0})),
            (measured(results, alpha), results.group("server_rate", alpha=alpha, learning_rates="auto")),
        ]
        for rate, group in rows:
            bottoms = measured_bottoms(group) if rate.startswith("measured") else "0.1"
            lines.append([f"{alpha:g}", bottoms, rate, *accuracies_on_the_way(group)])
    columns = ["α", "bottoms' rate", "server rate", "100 steps", "300 steps", "500 steps", "1,000 steps"]
    print_table("MNIST: the server's rate beside the bottoms'", columns, sorted(lines, key=lambda line: line[0]))


def accuracies_on_the_way(group: Group | None) -> list[str]:
    return [percent(at_step(group, step)) for step in (100, 300, 500, 1000)]


def measured_bottoms(group: Group | None) -> str:
    low, high = (group.last(f"owner_rate_{end}") if group else None for end in ("min", "max"))
    return f"{low.mean:.3f} to {high.mean:.3f}" if low and high else "measured"


def measured(results: Results, alpha: float) -> str:
    group = results.group("server_rate", alpha=alpha, learning_rates="auto")
    if group is None:
        return "measured"
    server = group.last("server_rate")
    assert server is not None
    return f"measured: {server.mean:.3f}"


def noise_table(results: Results) -> None:
    """Owners 5 to 9 see pixel noise of standard deviation 1.0 in training and test; the same owners without noise."""
    lines = []
    for name in ("mtsl", "local", "fedavg"):
        before = [owner_accuracies(folder(results, "mnist", seed, name)) for seed in SEEDS]
        after = [owner_accuracies(folder(results, "noise", seed, name)) for seed in SEEDS]
        line = [TITLES[name]]
        for part in (slice(0, 5), slice(5, 10)):
            quiet, noisy = ([mean(list(run.values())[part]) for run in runs] for runs in (before, after))
            drops = [a - b for a, b in zip(quiet, noisy, strict=True)]
            line += [percent(Spread.of(quiet)), percent(Spread.of(noisy)), percent(Spread.of(drops))]
        lines.append(line)
    columns = ["method", "clean owners before", "after", "drop", "noisy owners before", "after", "drop"]
    print_table("MNIST at α = 0.3: five of ten owners become noisy (σ = 1.0)", columns, lines)


def folder(results: Results, experiment: str, seed: int, name: str) -> Path:
    inner = f"seed={seed},algorithm.name={name}"
    return results.out / experiment / (inner if experiment == "noise" else f"seed={seed},{ALPHA}=0.3,{METHOD}={name}")


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def owner_accuracies(path: Path) -> Mapping[str, float]:
    """By owner, of the model that a run ended with."""
    config = load_config(path / "config.yaml")
    setting = prepared(path / "config.yaml").setting
    states = torch.load(path / "model.pt", weights_only=True)
    loss = resolve_loss(config.training.loss)
    found = {}
    for name, data in setting.owners.items():
        state = states.get(name, states)
        assert data.test is not None
        seed = derive(config.seed, name, "evaluation")
        found[name] = evaluate(setting.spec, [state], data.test, data.eval_transform, loss, seed=seed).accuracy
    return found


@lru_cache(maxsize=2)
def prepared(config: Path) -> Experiment:
    return build(load_config(config))


def newcomer_table(results: Results) -> None:
    runs = [json.loads((results.out / "new_owner" / f"seed={seed}.json").read_text()) for seed in SEEDS]
    lines = []
    for n in (50, 200, 800):
        names = (f"new-{n}-random", f"new-{n}-mean", f"scratch-{n}")
        lines.append([str(n), *(percent(Spread.of([run[name] for run in runs])) for name in names)])
    columns = ["samples", "frozen top, random bottom", "frozen top, mean bottom", "whole model from scratch"]
    print_table("MNIST at α = 0.3: a tenth owner joins nine after 1,000 steps and trains for 500", columns, lines)


def target_table(results: Results) -> None:
    """What was to be shown, and whether it was."""

    def accuracy(name: str, alpha: float) -> float:
        spread = last(results.method(name, alpha))
        return 100 * spread.mean if spread else float("nan")

    rivals = ("fedavg", "fedprox", "minibatch_sfl", "fedem")
    gaps = {alpha: accuracy("mtsl", alpha) - accuracy("fedavg", alpha) for alpha in (0.0, 0.1, 0.3, 1.0)}
    smallest = {alpha: min(accuracy("mtsl", alpha) - accuracy(r, alpha) for r in rivals) for alpha in (0.0, 0.1)}
    fast = results.group("server_rate", alpha=0.3, learning_rates={"server": 0.3})
    ours = fast.to_target("steps_to_target", 0.9) if fast else None
    federated = [results.method("fedavg", 0.3), results.group("best_rate", name="fedavg")]
    best = min((s.mean for g in federated if g and (s := g.to_target("steps_to_target", 0.9))), default=float("nan"))
    assert ours is not None
    raised = []
    for bottoms, experiment, slow in (
        (0.1, "server_rate", results.method("mtsl", 0.1)),
        (0.03, "slow_bottoms", results.group("slow_bottoms", alpha=0.1, learning_rates={"server": 0.03})),
    ):
        fast = at_step(results.group(experiment, alpha=0.1, learning_rates={"server": 0.3}), 500)
        raised.append(f"{percent(fast)} against {percent(at_step(slow, 1000))} with bottoms at {bottoms:g}")
    lines = [
        [
            "some α ≤ 0.1: MTSL ≥ 95, ≥ 5 above every federated baseline, ≥ 7 above FedAvg",
            "96.8 against 79.5 (α unknown)",
            "; ".join(
                f"α = {a:g}: {accuracy('mtsl', a):.1f}, {smallest[a]:.1f} above the best, {gaps[a]:.1f} above FedAvg"
                for a in (0.0, 0.1)
            ),
        ],
        [
            "MTSL − FedAvg falls with α, positive to 0.3, −2 to −7 at 1",
            "–",
            ", ".join(f"{gap:+.1f} at {alpha:g}" for alpha, gap in gaps.items()),
        ],
        [
            "steps to 90 % at α = 0.3: at least 50 % fewer than FedAvg's best",
            "−60 % rounds",
            f"{ours.mean:.0f} against {best:.0f}: {100 * (ours.mean / best - 1):+.0f} %",
        ],
        [
            "a server rate of its own: the common rate's 1,000 steps in at most 500",
            "–",
            "α = 0.1, server rate 0.3: " + "; ".join(raised),
        ],
    ]
    print_table("Targets", ["target", "paper", "here"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", required=True, help="folder with torchvision's MNIST and FashionMNIST")
    parser.add_argument("--out", type=Path, default=Path("runs/mtsl"), help="where run.py left its runs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    results = Results(arguments.data_root, arguments.out)
    for make in (target_table, accuracy_tables, speed_table, rate_table, noise_table, newcomer_table):
        make(results)
    draw_sweep(
        results.groups("mnist"), arguments.out / "mnist.png", title="MNIST by main label, ten owners", target=0.9
    )


if __name__ == "__main__":
    main()
