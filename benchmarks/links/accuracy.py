"""Accuracy, bytes and seconds of training over coded links: one line for each run, appended as it ends.

    python benchmarks/links/accuracy.py --output accuracy.jsonl
    python benchmarks/links/accuracy.py --output accuracy.jsonl --setting demo --seeds 0 1 2
    python benchmarks/links/accuracy.py --output accuracy.jsonl --report

Started again, it goes on with what is missing. Runs of one seed have the same data, weights and batches, so that the
difference to the run without codecs is that of the codec. A run whose loss becomes NaN says so in its line.
``--root`` has Fashion-MNIST and CIFAR-10.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, median
from typing import Any

from raysplit.actors.records import NonFiniteLoss
from raysplit.api import train_config
from raysplit.cli.training.demo import LEARNING_RATES, ROUNDS
from raysplit.config.run import check_config

CODECS: dict[str, dict[str, Any]] = {
    "none": {},
    "narrow labels": {"labels": "narrow"},
    "zstd": {"smashed": "zstd", "gradients": "zstd"},
    "float16": {"smashed": "float16", "gradients": "float16"},
    "float8": {"smashed": "float8", "gradients": "float8"},
    "int8": {"smashed": "int8", "gradients": "int8"},
    "int8 + zstd": {"smashed": ["int8", "zstd"], "gradients": ["int8", "zstd"]},
    "int4": {"smashed": "int4", "gradients": "int4"},
    "int4 + zstd": {"smashed": ["int4", "zstd"], "gradients": ["int4", "zstd"]},
    "int4 tensor": {k: {"codec": "int4", "by": "tensor"} for k in ("smashed", "gradients")},
    "int2 tile": {
        "smashed": {"codec": "int2", "by": "tile"},
        "gradients": {"codec": "int2", "by": "tile", "rounding": "stochastic"},
    },
    "top_k 25 %": {"smashed": {"codec": "top_k", "ratio": 0.25}},
    "top_k 10 %": {"smashed": {"codec": "top_k", "ratio": 0.1}},
    "rand_top_k 25 %": {"smashed": {"codec": "rand_top_k", "ratio": 0.25}},
    "rand_top_k 10 %": {"smashed": {"codec": "rand_top_k", "ratio": 0.1}},
    "c3 2": {k: {"codec": "c3", "rows": 2} for k in ("smashed", "gradients")},
    "c3 8": {k: {"codec": "c3", "rows": 8} for k in ("smashed", "gradients")},
    "delta int4": {"smashed": ["delta", "int4"], "gradients": "int8"},
    "skip": {"smashed": "skip", "gradients": "int8"},
    "product_quantization 16": {"smashed": {"codec": "product_quantization", "words": 16}, "gradients": "int8"},
    "product_quantization 64": {"smashed": {"codec": "product_quantization", "words": 64}, "gradients": "int8"},
}
WEIGHTS: dict[str, dict[str, Any]] = {
    "none": {},
    "float16": {"weights": "float16"},
    "int8": {"weights": "int8"},
    "int4 up, int8 down": {"weights": "int8", "rules": [{"from": "owner-*", "kind": "weights", "codec": "int4"}]},
}
for _name in ("power_sgd", "stc", "top_k"):
    for _on in (True, False):
        _codec = {"codec": _name, "feedback": _on} | ({"ratio": 0.01} if _name == "top_k" else {})
        WEIGHTS[f"{_name}{'' if _on else ' without feedback'}"] = {
            "rules": [{"from": "owner-*", "kind": "weights", "codec": _codec}]
        }


def settings(name: str, seed: int, root: str, every: int = 1) -> dict[str, Any]:
    """The settings of a run without codecs, evaluated after so many rounds."""
    base: dict[str, Any] = {"seed": seed, "cluster": {"kind": "local"}, "evaluation": {"every": every}}
    if name in ("demo", "demo fedavg", "demo splitfed_v2"):
        algorithm = name.partition(" ")[2] or "minibatch_sfl"
        rate = LEARNING_RATES[algorithm]
        return base | {
            "model": {"name": "cnn8"},
            "data": {"name": "digits"},
            "partition": {"name": "noniid_ratio", "num_owners": 10, "ratio": 1.0},
            "algorithm": {"name": algorithm} | ({} if algorithm == "fedavg" else {"cut": 1}),
            "training": {"rounds": ROUNDS, "batch_size": 32, "local_epochs": 5, "optimizer": {"lr": rate}},
        }
    if name == "weights":
        return base | {
            "model": {"name": "cnn8"},
            "data": {"name": "digits"},
            "partition": {"name": "noniid_ratio", "num_owners": 10, "ratio": 0.5},
            "algorithm": {"name": "fedavg"},
            "training": {"rounds": 40, "batch_size": 32, "optimizer": {"lr": 0.3}},
        }
    method, data, where = name.split()
    cuts = {"cnn4": {"early": 1, "late": 3}, "resnet18_cifar": {"early": 1, "late": 3}}
    model = "cnn4" if data == "fashion" else "resnet18_cifar"
    sets = {"fashion": ("FashionMNIST", 5000, 10_000), "cifar": ("CIFAR10", 1000, 500)}
    return base | {
        "model": {"name": model},
        "data": {"name": sets[data][0], "root": root, "train_samples": sets[data][1], "test_samples": sets[data][2]},
        "partition": {"num_owners": 5},
        "algorithm": {"name": method, "cut": cuts[model][where]},
        "training": {
            "rounds": 5,
            "batch_size": 32,
            "optimizer": {"lr": 0.05, "momentum": 0.9},
            "lr_schedule": "cosine",  # to 0: at a constant rate two runs of one seed differ by points for no reason
            "lr_schedule_per": "step",
        },
    }


_TICKS = [digit * 10**power for power in (1, 2, 3) for digit in (1, 2, 3, 4, 5, 7)]
SETTINGS = [
    "demo",
    "demo fedavg",
    "demo splitfed_v2",
    "weights",
    *(
        f"{m} {d} {c}"
        for d in ("fashion", "cifar")
        for m in ("splitfed_v2", "minibatch_sfl")
        for c in ("early", "late")
    ),
]


def codecs_of(name: str) -> dict[str, dict[str, Any]]:
    """The codecs that are compared in a setting."""
    return WEIGHTS if name in ("weights", "demo fedavg") else CODECS


def measure(name: str, codec: str, seed: int, root: str, every: int = 1) -> dict[str, Any]:
    """Train once; the accuracy is the mean of the last evaluations, five where there are more than ten."""
    config = check_config(settings(name, seed, root, every) | {"links": codecs_of(name)[codec]})
    began_s = time.process_time()
    try:
        result = train_config(config)
    except NonFiniteLoss as error:
        return {"setting": name, "codec": codec, "seed": seed, "diverged": str(error)}
    cpu_s = time.process_time() - began_s
    rows = [row for row in result.rows if "test_accuracy" in row]
    last = rows[-5:] if len(rows) > 10 else rows[-1:]
    kinds: dict[str, list[int]] = {}
    for record in result.links:
        for kind, num_bytes, raw_bytes in record.kinds:
            both = kinds.setdefault(kind, [0, 0])
            both[0] += num_bytes
            both[1] += raw_bytes

    def mean(key: str) -> float | None:
        found = [row[key] for row in last if key in row]
        return sum(found) / len(found) if found else None

    return {
        "setting": name,
        "codec": codec,
        "seed": seed,
        "accuracy": mean("test_accuracy"),
        "accuracy_uncoded": mean("test_accuracy_uncoded"),
        "curve": [[row["bytes_total"], row["test_accuracy"]] for row in rows],
        "bytes": sum(record.num_bytes for record in result.links),
        "raw_bytes": sum(record.raw_bytes for record in result.links),
        "by_kind": kinds,
        "seconds": sum(row["seconds"] for row in result.rows),
        "cpu_s": cpu_s,
    }


def read(path: Path) -> list[dict[str, Any]]:
    """The runs that are there, without a last line that was cut short."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a run, after whole lines only."""
    whole = path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0
    with path.open("ab") as file:
        file.truncate(whole)
        file.write(f"{json.dumps(row)}\n".encode())


def factor(row: dict[str, Any], kinds: Iterable[str]) -> float:
    """Uncoded bytes of some kinds of values in proportion to those that were sent."""
    found = [row["by_kind"][kind] for kind in kinds if kind in row["by_kind"]]
    return sum(raw for _, raw in found) / max(1, sum(sent for sent, _ in found)) if found else 1.0


def report(rows: list[dict[str, Any]], *, seconds: bool) -> str:
    """A Markdown table for each setting: means over seeds, with the range of the differences to no codec."""
    times = " seconds x |" if seconds else ""
    text = []
    for name in dict.fromkeys(row["setting"] for row in rows):
        found = [row for row in rows if row["setting"] == name]
        plain = {row["seed"]: row for row in found if row["codec"] == "none" and "diverged" not in row}
        text += [
            f"\n### {name}\n",
            f"| codec | seeds | accuracy | difference | without codec | factor at the cut | factor in all |{times}",
            f"|---|---|---|---|---|---|---|{'---|' if seconds else ''}",
        ]
        for codec in dict.fromkeys(row["codec"] for row in found):
            tried = [row for row in found if row["codec"] == codec and row["seed"] in plain]
            runs = [row for row in tried if "diverged" not in row]
            if not runs:
                continue
            differences = [100 * (row["accuracy"] - plain[row["seed"]]["accuracy"]) for row in runs]
            uncoded = [row["accuracy_uncoded"] for row in runs if row["accuracy_uncoded"] is not None]
            slower = median(row["seconds"] / plain[row["seed"]]["seconds"] for row in runs)
            low, high = min(differences), max(differences)
            of = f" of {len(tried)}, the others end in NaN" if len(runs) < len(tried) else ""
            text.append(
                f"| {codec} | {len(runs)}{of} | {100 * mean(row['accuracy'] for row in runs):.1f} | "
                f"{f'{low:+.1f}' if len(runs) == 1 else f'{low:+.1f} to {high:+.1f}'} | "
                f"{f'{100 * mean(uncoded):.1f}' if uncoded else ''} | "
                f"{median(factor(row, ('smashed', 'gradients')) for row in runs):.2f} | "
                f"{median(row['raw_bytes'] / row['bytes'] for row in runs):.2f} |"
                f"{f' {slower:.2f} |' if seconds else ''}"
            )
    return "\n".join(text)


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy against bytes: one seed over its rounds, and the mean over seeds with its range."""
    from matplotlib import pyplot as plt

    rows = [row for row in rows if "diverged" not in row]
    names = [name for name in SETTINGS if sum(row["setting"] == name for row in rows) > 1]
    figure, grid = plt.subplots((len(names) + 1) // 2, 2, figsize=(11, 4 * ((len(names) + 1) // 2)), squeeze=False)
    colors = {
        codec: plt.get_cmap("tab20")(2 * i % 20 + i // 10 % 2)
        for i, codec in enumerate(dict.fromkeys(r["codec"] for r in rows))
    }
    for axes, name in zip(grid.flat, names, strict=False):
        for codec, color in colors.items():
            runs = [row for row in rows if (row["setting"], row["codec"]) == (name, codec)]
            if not runs:
                continue
            longest = max(runs, key=lambda row: len(row["curve"]))["curve"]
            axes.plot([x / 2**20 for x, _ in longest], [100 * y for _, y in longest], color=color, alpha=0.4)
            found = [100 * row["accuracy"] for row in runs]
            middle = mean(found)
            ends = [[middle - min(found)], [max(found) - middle]]
            axes.errorbar(runs[0]["bytes"] / 2**20, middle, ends, color=color, marker="o", capsize=3, label=codec)
        axes.set(title=name, xlabel="MiB of the run", ylabel="test accuracy, %", xscale="log")
        low, high = axes.get_xlim()
        axes.set_xticks([tick for tick in _TICKS if low <= tick <= high], minor=False)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.xaxis.set_minor_formatter("")
        axes.grid(alpha=0.3)
    entries = {label: each for axes in grid.flat for each, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.tight_layout(rect=(0, 0.08, 1, 1))
    figure.legend(entries.values(), entries.keys(), loc="lower center", ncols=6, fontsize=9)  # hides no point
    figure.savefig(path, dpi=90)
    print(f"\nfigure: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--root", default="data")
    parser.add_argument("--setting", nargs="+", choices=SETTINGS, default=SETTINGS)
    parser.add_argument("--codec", nargs="+", default=None)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--every", type=int, default=1, help="rounds between evaluations, which change nothing else")
    parser.add_argument("--report", action="store_true")
    parser.add_argument("--seconds", action="store_true", help="tell times too, of a machine that did nothing else")
    parser.add_argument("--figure", type=Path, help="draw accuracy against bytes")
    given = parser.parse_args()
    done = {(row["setting"], row["codec"], row["seed"]) for row in read(given.output)}
    for name in () if given.report else given.setting:
        for seed in given.seeds:
            for codec in codecs_of(name):
                if (name, codec, seed) in done or (given.codec and codec not in given.codec):
                    continue
                row = measure(name, codec, seed, given.root, given.every)
                append(given.output, row)
                reached = row.get("diverged") or f"{row['accuracy']:.3f}, {row['bytes'] / 2**20:.1f} MiB"
                print(f"{name}, {codec}, seed {seed}: {reached}", flush=True)
    print(report(read(given.output), seconds=given.seconds))
    if given.figure:
        draw(read(given.output), given.figure)


if __name__ == "__main__":
    main()
