"""`raysplit train`: the run folder, the quiet and JSON modes, and the user's own model, data, partition, algorithm."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from click.testing import CliRunner, Result
from documented import write_module

from raysplit.cli.training.train import train
from raysplit.config.run import load_config
from raysplit.runs.folder import read_metrics

SMALL = {
    "model": {"name": "mlp", "hidden": [8]},
    "data": {"name": "random", "num_classes": 3, "num_samples": 90, "dim": 4},
    "partition": {"name": "iid", "num_owners": 3},
    "algorithm": {"name": "splitfed_v1"},
    "training": {"rounds": 2, "batch_size": 8},
    "cluster": {"kind": "local"},
}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")


def trained(*arguments: str) -> Result:
    result = CliRunner().invoke(train, ["small.yaml", *arguments], env={"COLUMNS": "200"}, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


def test_where_nobody_watches_a_line_is_printed_per_round() -> None:
    lines = [line for line in trained("--name", "one").stderr.splitlines() if line.startswith("round ")]
    assert [line.split(":")[0] for line in lines] == ["round 1 of 2", "round 2 of 2"]
    assert " left" in lines[0]
    assert all(len(line) <= 80 for line in lines)
    assert trained("--name", "two", "--quiet").stderr == ""


def test_the_folder_of_a_run_holds_everything() -> None:
    trained("--name", "one", "--quiet")
    folder = Path("runs/one")
    assert {path.name for path in folder.iterdir()} >= {
        "config.yaml", "environment.json", "partition.parquet", "metrics.jsonl", "metrics.parquet", "traffic.parquet",
        "model.pt", "summary.json",
    }  # fmt: skip
    assert load_config(folder / "config.yaml").training.rounds == 2
    assert [row["round"] for row in read_metrics(folder)] == [1, 2]
    weights = torch.load(folder / "model.pt", weights_only=True)
    assert {name: tuple(value.shape) for name, value in weights.items()} == {
        "hidden1.1.weight": (8, 4), "hidden1.1.bias": (8,), "output.weight": (3, 8), "output.bias": (3,),
    }  # fmt: skip


def test_quiet_prints_the_result_only() -> None:
    result = trained("--name", "one", "--quiet")
    first, times, last = result.stdout.splitlines()
    assert first.startswith("test accuracy 0.")
    assert re.fullmatch(r"[\d.]+ s: start [\d.]+, train [\d.]+, evaluate [\d.]+, write [\d.]+", times)
    assert last == "run folder: runs/one"
    assert result.stderr == ""


def test_json_prints_a_line_per_round_and_a_summary() -> None:
    result = trained("--name", "one", "--json")
    *rounds, last = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["round"] for row in rounds] == [1, 2]
    assert last["summary"]["stopped"] == "all rounds done"
    assert last["summary"]["folder"] == "runs/one"


def test_a_run_without_a_name_takes_the_files_stem_and_the_time() -> None:
    trained("--quiet")
    (folder,) = Path("runs").iterdir()
    assert folder.name.startswith("small-20")


def test_the_default_run_needs_no_file() -> None:
    arguments = ["--quiet", "--set", "cluster.kind=local", "--set", "training.rounds=1"]
    result = CliRunner().invoke(train, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "after 1 round (" in result.stdout


def test_a_model_of_the_users_own_as_documented() -> None:
    write_module("mymodel", Path())
    trained("--quiet", "--set", "model={name: 'mymodel:TwoBranches'}", "--set", "data={name: digits}",
            "--set", "training.max_steps=1", "--set", "algorithm.cut=right")  # fmt: skip


def test_tokens_of_the_users_own_as_documented() -> None:
    write_module("mytokens", Path())
    trained("--quiet", "--set", "data={name: 'mytokens:repeated'}", "--set", "model={name: 'mytokens:Reader'}",
            "--set", "algorithm.cut=embedding", "--set", "training.max_steps=2")  # fmt: skip


def test_a_data_set_of_the_users_own_as_documented() -> None:
    write_module("mydata", Path())
    result = trained("--quiet", "--set", "data={name: 'mydata:spirals', num_samples: 200}")
    assert "test accuracy" in result.stdout


def test_a_partition_of_the_users_own_as_documented() -> None:
    write_module("mypartition", Path())
    trained("--name", "one", "--quiet", "--set", "partition={name: 'mypartition:halving', num_owners: 3}")
    owners = pq.read_table("runs/one/partition.parquet")["owner"].to_pylist()
    sizes = [owners.count(owner) for owner in sorted(set(owners))]
    assert sizes[0] > sizes[1] > sizes[2] > 0


def test_an_algorithm_of_the_users_own_as_documented() -> None:
    write_module("myalgorithm", Path())
    trained("--name", "own", "--quiet", "--set", "algorithm={name: 'myalgorithm:HalfwayAveraging', pull: 0.5}")
    trained("--name", "all", "--quiet", "--set", "algorithm={name: 'myalgorithm:HalfwayAveraging', pull: 1.0}")
    trained("--name", "fedavg", "--quiet", "--set", "algorithm={name: fedavg}")
    losses = {
        name: [row["train_loss"] for row in read_metrics(Path("runs") / name)] for name in ("own", "all", "fedavg")
    }
    assert losses["all"] == losses["fedavg"]  # the whole way to the mean is FedAvg
    assert losses["own"] != losses["fedavg"]


def test_a_users_own_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 4)).astype(np.float32)
    np.savez("mine.npz", x=x, y=np.arange(60) % 3, owner=np.arange(60) // 20)
    trained("--name", "one", "--quiet", "--set", "data={name: mine.npz}",
            "--set", "partition={name: natural_id, num_owners: 3}")  # fmt: skip
    assert read_metrics(Path("runs/one"))[-1]["num_owners"] == 3


DOCUMENTED = {
    "mydata": ["data={name: 'mydata:spirals', noise: 0.1}", "model={name: mlp, hidden: [32, 16]}"],
    "mytokens": ["data={name: 'mytokens:repeated'}", "model={name: 'mytokens:Reader'}", "algorithm.cut=embedding"],
}


@pytest.mark.slow
@pytest.mark.parametrize("module", DOCUMENTED)
def test_the_documented_commands_end_with_a_result_worth_showing(module: str) -> None:
    """They ended near chance: the rate was low, and the class of the tokens could not be learned from so few rows."""
    write_module(module, Path())
    changes = [*DOCUMENTED[module], "training.optimizer={name: adam, lr: 0.01}", "cluster.kind=local"]
    arguments = ["--quiet", "--name", "shown", *(part for change in changes for part in ("--set", change))]
    assert CliRunner().invoke(train, arguments, catch_exceptions=False).exit_code == 0
    assert read_metrics(Path("runs/shown"))[-1]["test_accuracy"] > 0.9
