"""What the examples of every task reach: cut between owners and servers, in one place, and each owner alone.

    python benchmarks/models/examples.py --output examples.jsonl
    python benchmarks/models/examples.py --output examples.jsonl --report

One line for each run, appended as it ends; started again, it goes on with what is missing. Each run is an example as it
is written, but for the seed, the cluster (one process) and what `CASES` says. Adapters start from a model that the
script trains first, for each seed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

import raysplit
from raysplit.config.run import check_config, load_config
from raysplit.models.adapters.weights import write_weights

EXAMPLES = Path(__file__).parents[2] / "examples"
IN_ONE_PLACE, ALONE = {"algorithm": {"name": "centralised"}}, {"algorithm": {"name": "local"}}
LSTM = {"model": {"name": "lstm"}, "training.optimizer.lr": 0.01}
STEADY = {"training.optimizer.lr": 0.003}  # the rate of joint steps of six owners is twice this one
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "har, split": ("har", {}),
    "har, in one place": ("har", IN_ONE_PLACE),
    "har, alone": ("har", ALONE),
    "har LSTM, split": ("har", {**LSTM, "algorithm": {"name": "splitfed_v1", "cut": 1}}),
    "har LSTM, in one place": ("har", LSTM | IN_ONE_PLACE),
    "har LSTM, alone": ("har", LSTM | ALONE),
    "regression, split": ("regression", {}),
    "regression, in one place": ("regression", IN_ONE_PLACE),
    "regression, alone": ("regression", ALONE),
    "segmentation, split": ("segmentation", {}),
    "segmentation, in one place": ("segmentation", STEADY | IN_ONE_PLACE),
    "segmentation, alone": ("segmentation", STEADY | ALONE),
    "text_lm, split": ("text_lm", {}),
    "text_lm, in one place": ("text_lm", IN_ONE_PLACE),
    "text_lm, alone": ("text_lm", ALONE),
    "lora, split, separate": ("lora", {}),
    "lora, split, ffa": ("lora", {"model.lora.aggregate": "ffa"}),
    "lora, in one place": ("lora", IN_ONE_PLACE),
    "lora, alone": ("lora", ALONE),
    "lora, base": ("lora", {"training.optimizer.lr": 0.0, "training.rounds": 1, "training.max_steps": 1}),
}
BASE_ROUNDS = 40
FIGURES = {
    "har": ("test_accuracy",),
    "regression": ("test_mae", "test_r2"),
    "segmentation": ("primary",),
    "text_lm": ("test_loss",),
    "lora": ("test_loss",),
}


def changed(settings: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with some of them, named by their paths, replaced."""
    for path, value in changes.items():
        section = settings
        *outer, last = path.split(".")
        for key in outer:
            section = section[key]
        section[last] = value
    return settings


def example(name: str, seed: int, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an example in one process."""
    settings = load_config(EXAMPLES / f"{name}.yaml").model_dump(mode="json", exclude_unset=True)
    fixed = {"seed": seed, "cluster": {"kind": "local"}, "reliability": {"checkpoint_every": None}}
    return changed(settings | fixed, changes)


def base(seed: int, folder: Path) -> Path:
    """Train the model that adapters are added to, unless it is there."""
    file = folder / f"base-{seed}.safetensors"
    if not file.exists():
        changes = {"training.rounds": BASE_ROUNDS, "evaluation": {"every": BASE_ROUNDS}}
        result = raysplit.train(check_config(example("text_lm", seed, changes)))
        write_weights(result.states["global"], file)
    return file


def measure(case: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train once."""
    name, changes = CASES[case]
    if name == "lora":
        changes = {**changes, "model.weights": str(base(seed, folder))}
    began_s = time.process_time()
    result = raysplit.train(check_config(example(name, seed, changes)))
    row = next(row for row in reversed(result.rows) if any(key.startswith("test_") for key in row))
    return {
        "case": case,
        "seed": seed,
        "cpu_s": round(time.process_time() - began_s, 1),
        **{key: value for key, value in row.items() if key.startswith(("test_", "primary", "lora_gap"))},
    }


def read(path: Path) -> list[dict[str, Any]]:
    """The lines that are there, without a last one that was cut short."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def report(rows: list[dict[str, Any]]) -> str:
    """A Markdown table: medians over seeds, and the figure of each."""
    text = ["| run | figure | median | of each seed | CPU s |", "|---|---|--:|---|--:|"]
    for case, (name, _) in CASES.items():
        same = [row for row in rows if row["case"] == case]
        for figure in FIGURES[name]:
            found = [row[figure] for row in same if figure in row]
            if found:
                each, cpu_s = ", ".join(f"{value:.3f}" for value in found), median(row["cpu_s"] for row in same)
                text.append(f"| {case} | {figure} | {median(found):.3f} | {each} | {cpu_s:.0f} |")
    return "\n".join(text)


def main() -> None:
    """Measure what is missing, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--cases", nargs="+", choices=[*CASES], default=[*CASES])
    parser.add_argument("--report", action="store_true")
    given = parser.parse_args()
    if given.report:
        print(report(read(given.output)))
        return
    torch.set_num_threads(1)
    done = {(row["case"], row["seed"]) for row in read(given.output)}
    for seed in given.seeds:
        for case in given.cases:
            if (case, seed) not in done:
                row = measure(case, seed, given.output.parent)
                with given.output.open("a") as file:
                    file.write(f"{json.dumps(row)}\n")


if __name__ == "__main__":
    main()
