"""A mistake of the user ends in one clear message and an exit code, never in a traceback; nothing is lost."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from raysplit.cli.main import main

Command = Callable[..., tuple[int, str, str]]

SMALL = {
    "model": {"name": "mlp", "hidden": [8, 6]},
    "data": {"name": "random", "num_classes": 3, "num_samples": 90, "dim": 4},
    "partition": {"name": "iid", "num_owners": 3},
    "algorithm": {"name": "splitfed_v1"},
    "training": {"rounds": 2, "batch_size": 8},
    "cluster": {"kind": "local"},
}

UNTRACEABLE = '''
from torch import nn


class Choosy(nn.Module):
    """Takes another way for large inputs."""

    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.near, self.far = nn.Linear(input_shape[0], num_classes), nn.Linear(input_shape[0], num_classes)

    def forward(self, x):
        return self.far(x) if x.sum() > 0 else self.near(x)
'''


@pytest.fixture
def raysplit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command in an empty folder that holds ``small.yaml``; gives exit code, output, errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "400")  # one line per message
    Path("small.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")

    def command(*arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            main(list(arguments))
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def train(raysplit: Command, *settings: str) -> str:
    """Train with changed settings and expect a mistake of the user; gives the message."""
    code, out, err = raysplit("train", "small.yaml", "--quiet", *[part for s in settings for part in ("--set", s)])
    assert code == 2, err
    assert out == ""
    assert err.startswith("error: ")
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("model.name=mlq", ["unknown model 'mlq'; did you mean 'mlp'?", "cnn8", "resnet18_cifar"]),
        ("data.name=MNISTT", ["unknown data set 'MNISTT'; did you mean 'MNIST'?", "digits", "CIFAR10"]),
        ("partition.name=diri", ["unknown partition 'diri'; did you mean 'dirichlet'?", "natural_id"]),
        ("algorithm.name=splitfed", ["unknown algorithm 'splitfed'; did you mean 'splitfed_v", "minibatch_sfl"]),
        ("training.batchsize=4", ["training.batchsize: unknown key; did you mean 'batch_size'?"]),
        ("model.hiden=[3]", ["model.hiden: mlp has no such option; did you mean 'hidden'?"]),
        ("partition.alpha=1", ["partition.alpha: iid has no such option (known: none)"]),
        ("partition.owners=3", ["partition.owners: iid has no such option (known: none); did you mean 'num_owners'?"]),
        ("data.batch_size=3", ["data.batch_size: random has no such", "did you mean 'training.batch_size'?"]),
        ("data.dims=4", ["data.dims: random has no such option; did you mean 'dim'?"]),
    ],
)
def test_unknown_names_list_the_known_ones(raysplit: Command, setting: str, expected: list[str]) -> None:
    message = train(raysplit, setting)
    assert [text for text in expected if text not in message] == []


@pytest.mark.parametrize("cut", ["9", "-1", "hidden7"])
def test_a_cut_that_does_not_exist_shows_the_legal_ones(raysplit: Command, cut: str) -> None:
    message = train(raysplit, f"algorithm.cut={cut}")
    assert cut in message
    assert "0..3" in message
    assert "raysplit cuts lists all places" in message
    assert cut != "hidden7" or ("hidden1" in message and "hidden2" in message)


def test_more_owners_than_samples(raysplit: Command) -> None:
    assert "91 owners for 7" in train(raysplit, "partition.num_owners=91")


def test_an_owner_without_samples(raysplit: Command) -> None:
    message = train(
        raysplit, "partition.name=dirichlet", "partition.alpha=0.001", "partition.num_owners=8",
        "partition.min_partition_size=0",
    )  # fmt: skip
    assert "without a sample" in message


def test_a_used_run_folder_is_left_alone(raysplit: Command) -> None:
    assert raysplit("train", "small.yaml", "--name", "one", "--quiet")[0] == 0
    before = Path("runs/one/metrics.jsonl").read_bytes()
    assert "run folder runs/one already holds a run" in train(raysplit, "output.name=one")
    assert Path("runs/one/metrics.jsonl").read_bytes() == before
    assert raysplit("train", "small.yaml", "--name", "one", "--quiet", "--overwrite")[0] == 0


def test_a_folder_that_is_no_run_is_not_even_overwritten(raysplit: Command) -> None:
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/thesis.txt").write_text("years of work", encoding="utf-8")
    message = train(raysplit, "output.name=mine", "output.overwrite=true")
    assert "not a run folder; it is left unchanged" in message
    assert Path("runs/mine/thesis.txt").exists()


def test_a_model_that_cannot_be_traced_names_the_place_and_the_way_out(raysplit: Command) -> None:
    Path("choosy.py").write_text(UNTRACEABLE, encoding="utf-8")
    message = train(raysplit, "model={name: 'choosy:Choosy'}")
    assert "choosy" in message.lower()
    assert "trace" in message


def test_a_loss_that_is_not_finite_names_owner_round_and_step_and_keeps_the_last_good_round(raysplit: Command) -> None:
    settings = ["training.rounds=50", "training.optimizer.lr=40", "training.loss=mse_of_one_hot:loss"]
    Path("mse_of_one_hot.py").write_text(
        "import torch\n\ndef loss(z, y):\n    return (z - torch.nn.functional.one_hot(y.long(), 3)).square().mean()\n",
        encoding="utf-8",
    )
    code, out, err = raysplit(
        "train", "small.yaml", "--name", "bad", "--quiet", *[part for s in settings for part in ("--set", s)]
    )
    assert (code, out) == (1, "")
    rows = [json.loads(line) for line in Path("runs/bad/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert f"round {len(rows) + 1}" in err
    assert "owner-" in err
    assert "step " in err
    assert "Traceback" not in err
    assert json.loads(Path("runs/bad/summary.json").read_text(encoding="utf-8"))["stopped"] == "diverged"
    weights = torch.load("runs/bad/model.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_ray_out_of_reach_says_what_was_tried(raysplit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**arguments: object) -> None:
        raise ConnectionError("nobody listens")

    monkeypatch.setattr(os, "environ", {**os.environ, "RAY_ADDRESS": "10.0.0.9:6379"})
    jobs = SimpleNamespace(JobConfig=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=refuse, is_initialized=lambda: False, job_config=jobs))
    code, out, err = raysplit("train", "small.yaml", "--quiet", "--set", "cluster.kind=ray")
    assert (code, out) == (1, "")
    assert "Ray could not be reached at 10.0.0.9:6379 (ConnectionError: nobody listens" in err
    assert "ray start --head" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "missing.yaml"], "cannot read missing.yaml: No such file or directory"),
        (["train", "--set", "training"], "override 'training' does not have the form section.key=value"),
        (["trian"], "No such command 'trian'"),
        (["train", "--fast"], "No such option"),
        (["compare"], "Missing argument 'RUNS...'"),
        (["compare", "nowhere"], "nowhere is not a run folder"),
        (["compare", "nowhere", "--target", "-1"], "-1.0 is not in the range"),
        (
            ["sweep", "small.yaml", "--over", "seed=1,2", "--target", "90"],
            "these runs have accuracies; give one from 0",
        ),
    ],
)
def test_wrong_commands(raysplit: Command, arguments: list[str], message: str) -> None:
    code, out, err = raysplit(*arguments)
    assert (code, out) == (2, "")
    assert message in err


LEAVING = """
import sys

from raysplit.algorithms.fedavg import FedAvg


def load(**options):
    sys.exit()


class Leaves(FedAvg):
    async def round(self, context):
        sys.exit(0)
"""


@pytest.mark.parametrize("setting", ["data={name: leaving_early_m:load}", "algorithm.name=leaving_late_m:Leaves"])
def test_own_code_that_ends_the_program_is_an_error(raysplit: Command, setting: str) -> None:
    """``data: {name: 'sys:exit'}`` ended with 0 and printed nothing."""
    for name in ("early", "late"):
        Path(f"leaving_{name}_m.py").write_text(LEAVING, encoding="utf-8")
    code, out, err = raysplit("train", "small.yaml", "--quiet", "--set", setting)
    assert (code != 0, out) == (True, "")
    assert "SystemExit" in err
    assert "_m.py, line" in err
    assert "Traceback" not in err
