"""Run folders by URI: the same files as in a local folder, compared and resumed from there."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from disturbed import Killed, Killer, changes
from object_stores import STORES
from pyarrow import fs
from support import same, settings

from raysplit.api import train_config
from raysplit.cli.results.compare import compare
from raysplit.cli.results.export import export
from raysplit.cli.results.runs import list_runs
from raysplit.cli.results.show import show
from raysplit.cli.training.resume import resume
from raysplit.cli.training.train import train
from raysplit.config.run import check_config
from raysplit.runs.folder import RunFolderUsed
from raysplit.runs.remote import RemoteCopy, fetched, new_folder


def command(verb: Any, *arguments: str) -> str:
    ended = CliRunner().invoke(verb, list(arguments), catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.output


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(settings()))
    return str(path)


def test_a_run_at_a_uri_is_the_run_of_a_folder(tmp_path: Path, config: str) -> None:
    store = f"file://{tmp_path}/store"
    told = command(train, config, "--quiet", "--name", "a", "--set", f"output.root={store}")
    command(train, config, "--quiet", "--name", "a", "--set", f"output.root={tmp_path}/here")
    there, here = tmp_path / "store" / "a", tmp_path / "here" / "a"
    assert f"{store}/a" in told.replace("\n", "")
    assert names(there) == names(here)
    assert (there / "model.pt").read_bytes() == (here / "model.pt").read_bytes()
    assert not any(name.endswith(".part") for name in names(there))


def test_runs_at_uris_are_compared(tmp_path: Path, config: str) -> None:
    store = f"file://{tmp_path}/store"
    for name, algorithm in (("a", "fedavg"), ("b", "splitnn")):
        changes = ("--set", f"output.root={store}", "--set", f"algorithm.name={algorithm}")
        command(train, config, "--quiet", "--name", name, *changes)
    found = json.loads(command(compare, f"{store}/a", f"{store}/b", "--json", "--figure", str(tmp_path / "figure.png")))
    assert [run["algorithm"] for run in found["runs"]] == ["fedavg", "splitnn"]


def test_a_run_is_resumed_from_a_uri(tmp_path: Path, config: str) -> None:
    """Cut short after its first round, by taking the end away."""
    store = f"file://{tmp_path}/store"
    for name in ("whole", "torn"):
        command(train, config, "--quiet", "--name", name, "--set", f"output.root={store}")
    torn, whole = tmp_path / "store" / "torn", tmp_path / "store" / "whole"
    (torn / "summary.json").unlink()
    (torn / "model.pt").unlink()
    for path in (torn / "checkpoints").glob("*"):
        if "2" in path.stem or path.stem == "best":
            path.unlink()
    command(resume, f"{store}/torn", "--quiet")
    assert (torn / "model.pt").read_bytes() == (whole / "model.pt").read_bytes()


@pytest.mark.parametrize("store", STORES)
def test_a_run_in_an_object_store(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained there, cut short there, taken up from there, compared: the weights are those of a run on this disk."""
    more = changes("mas")
    (tmp_path / "c.yaml").write_text(json.dumps(settings(**more)))
    config, here = str(tmp_path / "c.yaml"), tmp_path / "here"
    command(train, config, "--quiet", "--name", "whole", "--set", f"output.root={here}")
    with STORES[store](monkeypatch) as uri:
        place, _, options = uri.partition("?")
        whole, torn = f"{place}/whole?{options}", f"{place}/torn?{options}"
        told = command(train, config, "--quiet", "--name", "whole", "--set", f"output.root={uri}")
        assert whole in told.replace("\n", "")
        with pytest.raises(Killed), new_folder(torn, overwrite=False) as (folder, mirrors):
            train_config(check_config(settings(**more)), folder=folder, callbacks=[*mirrors, Killer(2)])
        command(resume, torn, "--quiet")
        arguments = ["--json", "--figure", str(tmp_path / "figure.png")]
        compared = json.loads(command(compare, whole, torn, *arguments))
        assert [run["rounds"] for run in compared["runs"]] == [3, 3]
        for name, location in (("whole", whole), ("torn", torn)):
            found = fetched(location, tmp_path / name)
            assert (found / "model.pt").read_bytes() == (here / "whole" / "model.pt").read_bytes()
        with pytest.raises(RunFolderUsed, match="already holds a run"), new_folder(whole, overwrite=False):
            raise AssertionError("it was not refused")


@pytest.mark.parametrize("store", STORES)
def test_runs_in_an_object_store_are_listed_shown_and_exported(
    store: str, tmp_path: Path, config: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with STORES[store](monkeypatch) as uri:
        for name, algorithm in (("a", "fedavg"), ("b", "splitnn")):
            changes = ("--set", f"output.root={uri}", "--set", f"algorithm.name={algorithm}")
            command(train, config, "--quiet", "--name", name, *changes)
        place, _, options = uri.partition("?")
        source, folder = fs.FileSystem.from_uri(f"{place}/b?{options}")
        source.delete_file(f"{folder}/summary.json")
        listed = command(list_runs, "--root", uri)
        assert [word in listed for word in ("fedavg", "splitnn", "2 of 2", "all rounds done")] == [True] * 4
        way = f"raysplit resume {shlex.quote(f'{place}/b?{options}')}"
        assert f"to go on with a run that is unfinished: {way}" in listed
        shown = command(show, f"{place}/a?{options}")
        assert f"{place}/a?{options}: fedavg, all rounds done" in shown
        assert "checkpoint round-000002.ckpt: whole, after round 2" in shown
        command(export, f"{place}/a?{options}", str(tmp_path / "a.pt"))
        with pytest.raises(ValueError, match="there is no run at"):
            command(show, f"{place}/none?{options}")
        with pytest.raises(ValueError, match="there are no runs in"):
            command(list_runs, "--root", f"{place}/a?{options}")
    command(
        train, config, "--quiet", "--name", "a", "--set", "algorithm.name=fedavg", "--set", f"output.root={tmp_path}"
    )
    here, there = (torch.load(tmp_path / name, weights_only=True) for name in ("a/model.pt", "a.pt"))
    assert same(here, there)


def test_what_is_at_a_uri_is_not_overwritten_unasked(tmp_path: Path) -> None:
    store = tmp_path / "store" / "run"
    store.mkdir(parents=True)
    uri = f"file://{store}"
    (store / "notes.txt").write_text("mine")
    for overwrite, message in ((False, "already holds a run"), (True, "not a run folder; it is left unchanged")):
        with pytest.raises(RunFolderUsed, match=message), new_folder(uri, overwrite=overwrite):
            raise AssertionError("it was not refused")
    (store / "config.yaml").write_text("")
    with new_folder(uri, overwrite=True) as (local, mirrors):
        assert local.name == "run"
        assert len(mirrors) == 1
        local.mkdir()
        (local / "config.yaml").write_text("seed: 1")
    assert names(store) == {"config.yaml", "notes.txt"}
    assert (store / "config.yaml").read_text() == "seed: 1"


def test_only_what_changed_is_copied_and_what_is_gone_is_removed(tmp_path: Path) -> None:
    local, store = tmp_path / "local", tmp_path / "store"
    (local / "deep").mkdir(parents=True)
    (local / "a").write_text("1")
    (local / "deep" / "b").write_text("2")
    (local / "c.part").write_text("half")
    mirror = RemoteCopy(local, f"file://{store}")
    mirror.push()
    assert names(store) == {"a", "deep/b"}
    (store / "a").write_text("untouched since")
    (local / "deep" / "b").unlink()
    mirror.push()
    assert names(store) == {"a"}
    assert (store / "a").read_text() == "untouched since"
    (local / "a").write_text("new")
    mirror.push()
    assert (fetched(f"file://{store}", tmp_path / "copy") / "a").read_text() == "new"


def test_nothing_at_a_uri_and_no_such_store(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no run at file://"):
        fetched(f"file://{tmp_path}/none")
    with pytest.raises(ValueError, match="give a path, s3://"):
        fetched("ftp9://host/run")
