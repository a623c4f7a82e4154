"""Run folders of version 0.1.0 can still be listed, shown, compared, exported and resumed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result
from torch import Tensor

from raysplit.cli.main import cli
from raysplit.runs.folder import read_metrics

OLD = Path(__file__).parents[2] / "data" / "runs_0_1"
FINISHED = ("mas", "minibatch_sfl", "mtsl")
CUT_SHORT = sorted(path.stem for path in (OLD / "expected").glob("*.pt"))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A copy of all old runs, to be changed at will."""
    return Path(shutil.copytree(OLD, tmp_path / "runs", ignore=shutil.ignore_patterns("expected", "README.md")))


def invoked(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result


def tensors(states: Any, label: str = "") -> dict[str, Tensor]:
    """All tensors of nested state dicts by their full names."""
    found = {}
    for key, value in states.items():
        found |= {f"{label}{key}": value} if isinstance(value, Tensor) else tensors(value, f"{label}{key} ")
    return found


def test_every_old_run_is_listed(runs: Path) -> None:
    found = json.loads(invoked("list", "--root", runs, "--json").output)
    state = {run["name"]: (f"{run['rounds']} of {run['rounds_planned']}", run["state"]) for run in found}
    assert state.keys() == {*FINISHED, *CUT_SHORT}
    assert {state[name] for name in FINISHED} == {("3 of 3", "all rounds done")}
    assert {state[name][0] for name in CUT_SHORT} == {"2 of 3", "2 of 5"}
    assert {state[name][1] for name in CUT_SHORT} == {"cut short"}


@pytest.mark.parametrize("name", FINISHED)
def test_an_old_run_is_shown(name: str, runs: Path) -> None:
    lines = " ".join(invoked("show", runs / name).output.split())
    assert f"{name}: {name}, all rounds done 3 of 3 rounds" in lines
    assert all(f"round {row['round']}: loss {row['train_loss']:.4f}" in lines for row in read_metrics(runs / name))


def test_old_runs_are_compared(runs: Path, tmp_path: Path) -> None:
    folders = [runs / name for name in ("minibatch_sfl", "mtsl", "fedavg-cut")]
    content = json.loads(invoked("compare", *folders, "--json", "--figure", tmp_path / "figure.png").stdout)
    assert [run["rounds"] for run in content["runs"]] == [3, 3, 2]
    assert (tmp_path / "figure.png").exists()


@pytest.mark.parametrize(("name", "model"), [("minibatch_sfl", None), ("mtsl", "owner-1"), ("mas", "s")])
def test_an_old_model_is_exported(name: str, model: str | None, runs: Path, tmp_path: Path) -> None:
    invoked("export", runs / name, tmp_path / "model.pt", *(["--model", model] if model else []))
    kept = torch.load(runs / name / "model.pt", weights_only=True)
    exported, expected = (
        tensors(torch.load(tmp_path / "model.pt", weights_only=True)),
        tensors(kept[model] if model else kept),
    )
    assert exported.keys() == expected.keys()
    assert all(torch.equal(exported[key], expected[key]) for key in expected)


@pytest.mark.parametrize("name", CUT_SHORT)
def test_an_old_run_is_resumed_to_the_weights_it_would_have_had(name: str, runs: Path) -> None:
    """Up to rounding, which differs from one kind of CPU to another; the runs in double precision tell most."""
    before = read_metrics(runs / name)
    assert [path.name for path in (runs / name / "checkpoints").iterdir()] == ["round-000002.ckpt"]
    result = invoked("resume", runs / name, "--quiet", "--trust")
    assert "taking the one before" not in result.output
    after = read_metrics(runs / name)
    assert after[:2] == before
    assert len(after) > 2
    expected = tensors(torch.load(OLD / "expected" / f"{name}.pt", weights_only=True))
    found = tensors(torch.load(runs / name / "model.pt", weights_only=True))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        tolerance = 1e-9 if value.dtype == torch.float64 else 1e-4
        torch.testing.assert_close(found[key], value, rtol=tolerance, atol=tolerance)


def test_an_old_run_that_has_finished_is_not_resumed(runs: Path) -> None:
    result = CliRunner().invoke(cli, ["resume", str(runs / "minibatch_sfl")])
    assert "has finished; there is nothing left to do" in str(result.exception)
