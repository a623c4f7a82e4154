"""Mistakes and divergence: one message that is true, found before anything is made or started."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from raysplit.cli.main import main
from raysplit.runs.folder import read_metrics
from raysplit.training import session

SMALL = {
    "model": {"name": "mlp", "hidden": [8]},
    "data": {"name": "random", "num_classes": 3, "num_samples": 90, "dim": 4},
    "partition": {"name": "iid", "num_owners": 3},
    "training": {"rounds": 3, "batch_size": 8},
}
FAILS_LATE = """
import torch
def once(outputs, y, calls=[]):
    calls.append(1)
    loss = torch.nn.functional.cross_entropy(outputs, y.long())
    return loss * float("nan") if len(calls) > 14 else loss
def never(outputs, y):
    raise TypeError("no such loss")
"""


NO_GRADIENT = """
import torch
def cut_off(outputs, y):
    return torch.nn.functional.cross_entropy(outputs.detach(), y)
def in_place(outputs, y):
    return torch.nn.functional.cross_entropy(outputs.sub_(outputs.mean()), y)
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])  # so that the folder of one test is not on the path of the next
    monkeypatch.delitem(sys.modules, "latefail", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    Path("latefail.py").write_text(FAILS_LATE, encoding="utf-8")
    Path("nogradient.py").write_text(NO_GRADIENT, encoding="utf-8")


def error_of(capsys: pytest.CaptureFixture[str], *changes: str) -> str:
    arguments = [part for change in changes for part in ("--set", change)]
    with pytest.raises((SystemExit, TypeError)):
        main(["train", "small.yaml", "--name", "one", "--quiet", *arguments])
    return capsys.readouterr().err


WRONG = {
    "a cut that is not there": "algorithm.cut=hidden9",
    "a cut beyond the end": "algorithm.cut=77",
    "an option of the model": "model={name: cnn8, width: 3}",
    "a model that does not exist": "model.name=nomodule:Net",
    "a model for other data": "model.name=cnn8",
    "data that do not exist": "data={name: none.npz}",
    "too many owners": "partition.num_owners=500",
    "a key": "algorithm.bogus=1",
}


@pytest.mark.parametrize("change", WRONG.values(), ids=list(WRONG))
@pytest.mark.parametrize("kind", ["local", "ray"])
def test_a_mistake_leaves_nothing_and_starts_nothing(
    kind: str, change: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong cut left a run folder, so that the corrected command was refused; on Ray it showed after Ray's start."""
    monkeypatch.setattr(session, "connect", lambda _: pytest.fail("Ray was started"))
    assert error_of(capsys, f"cluster.kind={kind}", change).startswith("error: ")
    assert not Path("runs").exists()


def test_a_mistake_does_not_replace_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    main(["train", "small.yaml", "--name", "one", "--quiet", "--set", "cluster.kind=local"])
    with pytest.raises(SystemExit):
        main(["train", "small.yaml", "--name", "one", "--overwrite", "--quiet", "--set", "algorithm.cut=77"])
    assert len(read_metrics(Path("runs/one"))) == 3


def test_an_error_of_own_code_in_the_first_round_frees_the_name(capsys: pytest.CaptureFixture[str]) -> None:
    error_of(capsys, "cluster.kind=local", "training.loss=latefail:never")
    assert not Path("runs").exists()


def test_divergence_in_the_first_round_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    """Eleven lines told it, and that the last good round was saved, where there was none."""
    err = error_of(capsys, "cluster.kind=local", "training.optimizer.lr=1e30", "algorithm.name=minibatch_sfl")
    assert err.count("nan") == 1
    assert err.count("\n") == 1
    assert "in round 1, step 2; lower the learning rate" in err
    assert "saved" not in err
    assert "keeps" not in err
    assert not Path("runs").exists()


def test_a_run_that_is_replaced_is_there_until_the_new_one_has_a_round(capsys: pytest.CaptureFixture[str]) -> None:
    """``--overwrite`` removed the old run, and divergence in the first round the new one: both were lost."""
    main(["train", "small.yaml", "--name", "one", "--quiet", "--set", "cluster.kind=local"])
    before = {path: path.read_bytes() for path in Path("runs/one").rglob("*") if path.is_file()}
    error_of(capsys, "cluster.kind=local", "training.optimizer.lr=1e30", "output.overwrite=true")
    assert {path: path.read_bytes() for path in Path("runs/one").rglob("*") if path.is_file()} == before
    main(["train", "small.yaml", "--name", "one", "--quiet", "--overwrite", "--set", "cluster.kind=local"])
    assert {path for path in Path("runs/one").rglob("*") if path.is_file()} == before.keys()


def test_divergence_later_says_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    changes = ("cluster.kind=local", "algorithm.name=fedavg", "training.loss=latefail:once", "evaluation.every=2")
    err = error_of(capsys, *changes)
    assert err.count("nan") == 1
    rows = read_metrics(Path("runs/one"))
    tested = [row["round"] for row in rows if "test_loss" in row]
    weights = f", model.pt those of round {tested[-1]}" if tested else ""
    rounds = "1 round" if len(rows) == 1 else f"{len(rows)} rounds"
    assert f"(runs/one keeps {rounds}{weights}" in err
    assert json.loads(Path("runs/one/summary.json").read_text())["rounds"] == len(rows)


def test_a_loss_without_gradient_is_told_before_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    """It was told in step 1 at an owner, after Ray had been started: the loss was tried without gradients."""
    err = error_of(capsys, "cluster.kind=local", "algorithm.name=fedavg", "training.loss=nogradient:cut_off")
    assert "'nogradient:cut_off' returned a number that does not depend on the outputs" in err
    assert "step 1" not in err
    main(
        [
            "train",
            "small.yaml",
            "--name",
            "two",
            "--quiet",
            "--set",
            "cluster.kind=local",
            "--set",
            "algorithm.name=fedavg",
            "--set",
            "training.loss=nogradient:in_place",
        ]
    )  # which torch refuses for a leaf
