"""The commands around a run's life: doctor, list, show, resume, export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from disturbed import Killed, Killer, changes
from support import same, settings

from raysplit.api import train_config
from raysplit.cli.machines import doctor as doctor_module
from raysplit.cli.machines.doctor import Finding
from raysplit.cli.main import main
from raysplit.config.run import check_config


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two runs, ``whole`` and ``cut``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    config = check_config(settings(**changes("fedavg")))
    train_config(config, folder=Path("runs/whole"))
    with pytest.raises(Killed):
        train_config(config, folder=Path("runs/cut"), callbacks=[Killer(2)])
    return tmp_path


def test_from_list_to_export(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["list"])
    listed = capsys.readouterr().out
    assert "whole" in listed
    assert "all rounds done" in listed
    assert "to go on with a run that is cut short: raysplit resume runs/cut" in listed

    main(["show", "cut"])
    shown = capsys.readouterr().out
    assert "2 of 3 rounds" in shown
    assert "checkpoint round-000002.ckpt: whole, after round 2" in shown

    main(["resume", "cut", "--quiet"])
    assert "after 3 rounds (all rounds done)" in capsys.readouterr().out

    for name in ("cut", "whole"):
        main(["export", name, f"{name}.pt"])
    one, other = (torch.load(f"{name}.pt", weights_only=True) for name in ("cut", "whole"))
    assert same(one, other)


def test_a_spoilt_checkpoint_is_shown_as_such(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "runs/cut/checkpoints/round-000002.ckpt").write_bytes(b"something else")
    main(["show", "runs/cut"])
    shown = capsys.readouterr().out.replace("\n", " ")
    assert "round-000002.ckpt is not a checkpoint of this version" in shown
    assert "round-000001.ckpt: whole" in shown


def test_an_exported_program_gives_what_the_model_gives(here: Path) -> None:
    main(["export", "whole", "whole.pt2"])
    state = torch.load("runs/whole/model.pt", weights_only=True)
    x = torch.linspace(-1, 1, 30, dtype=torch.float64).view(3, 10)
    z = x
    for layer in ("hidden1", "hidden2", "hidden3", "output"):
        (weight,) = [v for k, v in state.items() if k.startswith(f"{layer}.") and k.endswith("weight")]
        (bias,) = [v for k, v in state.items() if k.startswith(f"{layer}.") and k.endswith("bias")]
        z = z @ weight.T + bias
        z = z if layer == "output" else z.relu()
    torch.testing.assert_close(torch.export.load("whole.pt2").module()(x), z)


BY_VALUE = """
from torch import nn
class ByValue(nn.Module):
    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.out = nn.Linear(input_shape[0], num_classes)
    def forward(self, x):
        return self.out(x if x.sum() > 0 else -x)
"""


def test_a_model_that_is_no_program_is_told_in_one_message(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method that does not cut trains it; ``export`` printed the graph and pages about torch's settings."""
    monkeypatch.syspath_prepend(here)
    (here / "byvalue.py").write_text(BY_VALUE, encoding="utf-8")
    train_config(
        check_config(settings(**changes("fedavg") | {"model": {"name": "byvalue:ByValue"}})), folder=Path("runs/own")
    )
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["export", "own", "own.pt2"])
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: torch.export cannot write ByValue as a program (")
    assert told.err.count("\n") == 1
    main(["export", "own", "own.pt"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "nobody"], "nobody is not a run folder, nor is runs/nobody; raysplit list"),
        (
            ["resume", "wholly"],
            "wholly is not a run folder, nor is runs/wholly; raysplit list shows the runs; did you mean 'whole'?",
        ),
        (["resume", "runs/whole"], "has finished; there is nothing left to do"),
        (["list", "--root", "elsewhere"], "there are no runs in elsewhere; start one with raysplit train"),
        (["export", "whole", "model.onnx"], "it must end in .pt or .safetensors for weights, or .pt2 for a program"),
        (["export", "whole", "model.pt", "--model", "owner-0"], "has one model; leave --model out"),
    ],
)
def test_mistakes_end_in_one_message(
    arguments: list[str], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.replace("\n", " ")


def test_the_model_of_one_owner_is_exported_by_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train_config(check_config(settings(**changes("local"))), folder=Path("runs/local"))
    with pytest.raises(SystemExit):
        main(["export", "local", "model.pt"])
    assert "the models owner-0, owner-1, owner-2; name one with --model" in capsys.readouterr().err.replace("\n", " ")
    main(["export", "local", "model.pt", "--model", "owner-1"])
    states = torch.load("runs/local/model.pt", weights_only=True)
    assert same(torch.load("model.pt", weights_only=True), states["owner-1"])


def test_the_doctor_looks_at_everything(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    main(["doctor"])
    told = capsys.readouterr().out
    for check in (
        "Python",
        "packages",
        "shared memory",
        "memory",
        "disk",
        "GPUs",
        "open files",
        "ports",
        "Ray address",
    ):
        assert check in told


def test_the_doctor_fails_where_something_is_bad(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Finding(name="packages", state="bad", found="no ray", advice="install ray")
    monkeypatch.setattr(doctor_module, "CHECKS", (lambda: bad,))
    assert main(["doctor"]) == 1
    assert "install ray" in capsys.readouterr().out


def test_a_configuration_with_a_reliability_section_is_kept(here: Path) -> None:
    tree = yaml.safe_load(Path("runs/whole/config.yaml").read_text(encoding="utf-8"))
    assert tree["reliability"]["checkpoint_every"] == 1
    assert tree["reliability"]["on_lost_place"] == "restart"
