"""Mistakes and divergence: one message that is true, found before anything is made or started."""

from __future__ import annotations

import json
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


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("small.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    Path("latefail.py").write_text(FAILS_LATE, encoding="utf-8")


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


def test_divergence_later_says_what_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    changes = ("cluster.kind=local", "algorithm.name=fedavg", "training.loss=latefail:once", "evaluation.every=2")
    err = error_of(capsys, *changes)
    assert err.count("nan") == 1
    rows = read_metrics(Path("runs/one"))
    tested = [row["round"] for row in rows if "test_loss" in row]
    weights = f", model.pt those of round {tested[-1]}" if tested else ""
    assert f"(runs/one keeps {len(rows)} rounds{weights}" in err
    assert json.loads(Path("runs/one/summary.json").read_text())["rounds"] == len(rows)
