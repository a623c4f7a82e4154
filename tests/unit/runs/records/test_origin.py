"""Whose a run folder is, and what is asked before the code that it names is imported."""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result
from disturbed import Killed, Killer
from support import settings

from raysplit.api import load, resume, train_config
from raysplit.cli.main import cli
from raysplit.cli.trust import allowed
from raysplit.config.run import check_config
from raysplit.runs.records.damaged import Damaged
from raysplit.runs.records.origin import NotTrusted, effects_of, is_own
from raysplit.runs.records.read import read_models

CODE = """
from pathlib import Path
Path("it ran").touch()

def load(**options):
    raise AssertionError("called")
"""


def told(*arguments: str | Path, answer: str = "") -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments], input=answer)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was cut short after a round, and a module of somebody else on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYSPLIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "foreign_code_m.py").write_text(CODE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path / "theirs"))
    monkeypatch.delitem(sys.modules, "foreign_code_m", raising=False)
    with pytest.raises(Killed):
        train_config(check_config(settings()), folder=tmp_path / "runs/x", callbacks=[Killer(1)])
    return tmp_path / "runs/x"


def change(folder: Path, **sections: Any) -> None:
    path = folder / "config.yaml"
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, section in sections.items():
        tree[name] |= section
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")


def test_the_user_who_trained_is_not_asked(folder: Path) -> None:
    assert is_own(folder)
    assert told("resume", folder, "--quiet").exit_code == 0


@pytest.mark.parametrize("section", ["data", "model", "partition", "algorithm"])
def test_code_of_others_is_named_and_not_imported(section: str, folder: Path, tmp_path: Path) -> None:
    """``resume`` ran the shell command that a foreign configuration named as data, and ``show`` imported methods."""
    change(folder, **{section: {"name": "foreign_code_m:load"}})
    found = told("resume", folder)
    assert isinstance(found.exception, NotTrusted)
    for text in ("was not written by this user", f"imports and runs foreign_code_m:load  ({section}.name)", "--trust"):
        assert text in str(found.exception)
    with pytest.raises(NotTrusted):
        resume(folder)
    assert not (tmp_path / "it ran").exists()
    told("resume", folder, "--trust", "--from-start")
    assert (tmp_path / "it ran").exists()


def test_readers_import_nothing(folder: Path, tmp_path: Path) -> None:
    change(folder, **{section: {"name": "foreign_code_m:load"} for section in ("data", "model", "algorithm")})
    for command in (["list", "--json"], ["show", folder], ["compare", folder], ["report", folder]):
        assert told(*command).exit_code == 0
    assert told("export", folder, "a.pt").exit_code == 0
    assert isinstance(told("export", folder, "a.pt2").exception, NotTrusted)
    with pytest.raises(NotTrusted):
        load(folder).model()
    assert not (tmp_path / "it ran").exists()


def test_the_same_through_a_uri(folder: Path, tmp_path: Path) -> None:
    change(folder, data={"name": "foreign_code_m:load"})
    assert isinstance(told("resume", f"file://{folder}").exception, NotTrusted)
    assert told("show", f"file://{folder}").exit_code == 0
    assert not (tmp_path / "it ran").exists()


def test_a_folder_without_a_mark_or_with_that_of_another_user_is_not_ones_own(folder: Path) -> None:
    path = folder / "environment.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for mark in (None, 5, "", "0" * 64, "ä"):
        path.write_text(json.dumps(content | {"mark": mark}), encoding="utf-8")
        assert not is_own(folder)
    path.unlink()
    assert not is_own(folder)


def test_places_of_others_are_named(folder: Path, tmp_path: Path) -> None:
    """``reliability.checkpoint_location: ../..`` of a foreign folder wrote checkpoints two folders up."""
    change(folder, reliability={"checkpoint_location": "../.."})
    found = told("resume", folder)
    assert isinstance(found.exception, NotTrusted)
    assert "writes, reads and deletes checkpoints in ../..  (reliability.checkpoint_location)" in str(found.exception)
    assert "checkpoints are in ../.., which was not looked at" in told("show", folder).output


def test_what_a_configuration_has_an_effect_on() -> None:
    tree = {
        "data": {
            "name": "subprocess:check_output",
            "args": "touch X; echo",
            "shell": True,
            "root": "/d",
            "download": True,
        },
        "model": {"name": "dense", "encoder": "evil:net", "hidden": [3, "a.b:C.d"]},
        "algorithm": {"name": "given:Mine#0"},
        "cluster": {"address": "ray://10.0.0.1:10001"},
        "links": {"smashed": "codecs:Own"},
        "output": {"root": "s3://bucket/runs", "name": "12:30"},
    }
    effects = effects_of(tree)
    assert effects.imports == (
        "imports and runs subprocess:check_output  (data.name)",
        "imports and runs evil:net  (model.encoder)",
        "imports and runs a.b:C.d  (model.hidden.1)",
        "imports and runs codecs:Own  (links.smashed)",
    )
    assert effects.writes == (
        "sends code and data to ray://10.0.0.1:10001  (cluster.address)",
        "writes downloads to /d  (data.root)",
    )
    assert effects.reads == ("reads /d  (data.root)",)


def test_without_a_key_of_ones_own_a_run_is_trained_and_nothing_is_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAYSPLIT_CACHE", str(tmp_path / "file"))
    train_config(check_config(settings()), folder=tmp_path / "run")
    assert "mark" not in json.loads((tmp_path / "run/environment.json").read_text(encoding="utf-8"))
    assert not is_own(tmp_path / "run")


@pytest.mark.parametrize("answer", [True, False])
def test_on_a_terminal_the_user_is_asked(
    answer: bool, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder, model={"name": "foreign_code_m:load"})
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda *arguments, **options: answer)
    if answer:
        allowed(folder, "resume", trust=False)
    else:
        with pytest.raises(click.Abort):
            allowed(folder, "resume", trust=False)
    assert "imports and runs foreign_code_m:load" in capsys.readouterr().err
    allowed(folder, "resume", trust=True)


def test_weights_that_are_a_program_are_no_reason_to_run_it(folder: Path) -> None:
    """PyTorch's own message advised to read such a file again with ``weights_only=False``, which runs it."""
    (folder / "model.pt").write_bytes(pickle.dumps(os.system, protocol=2))
    with pytest.raises(Damaged, match=r"model\.pt is damaged: it is cut short, or holds more than weights") as refused:
        read_models(folder)
    assert "weights_only" not in str(refused.value)


def test_where_trackers_send_metrics_is_an_effect() -> None:
    """Somebody else's run would send what its resumption computes to their server."""

    def written(*trackers: object) -> tuple[str, ...]:
        return effects_of({"output": {"trackers": list(trackers)}}).writes

    assert written("tensorboard") == ()
    assert written("wandb") == ("sends settings and metrics to wandb  (output.trackers)",)
    assert written({"name": "mlflow", "uri": "http://elsewhere:5000"}) == (
        "sends settings and metrics to mlflow (uri http://elsewhere:5000)  (output.trackers)",
    )
    assert len(written({"name": "tensorboard", "log_dir": "/home"}, 3)) == 2
    assert effects_of({"output": 3}).writes == ()
