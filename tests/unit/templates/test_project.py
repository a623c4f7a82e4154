"""Every template of `raysplit new` is a project that runs: its tests, its configuration and its command lines."""

from __future__ import annotations

import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import shell

from raysplit.cli.training.new import TEMPLATES as NAMED
from raysplit.templates.project import TEMPLATES, write_project

OWN = ("mydata", "mymodel", "myalgorithm")
"""The modules of a project."""


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of a template, as the working directory."""
    folder = tmp_path / "mine"
    write_project(folder, request.param)
    monkeypatch.chdir(folder)
    before = list(sys.path)
    yield folder
    sys.path[:] = before
    for name in OWN:  # the next project has others
        sys.modules.pop(name, None)


@pytest.mark.parametrize("project", TEMPLATES, indirect=True)
def test_its_tests_pass(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(project)
    found = runpy.run_path("test_project.py")
    tests = [value for name, value in found.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()


@pytest.mark.parametrize("project", TEMPLATES, indirect=True)
def test_its_configuration_trains(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In one process; `cluster.address`, which a lab has, is said to be without effect there."""
    settings = ("--set", "cluster.kind=local", "--set", "training.rounds=1", "--name", "first", "--quiet")
    code, out, _ = shell(capsys, "train", "config.yaml", *settings)
    assert (code, "run folder: runs/first" in out) == (0, True)
    assert (project / "runs" / "first" / "model.pt").exists()


def test_the_command_names_the_templates_that_there_are() -> None:
    assert tuple(TEMPLATES) == NAMED


def test_a_project_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my project"
    code, out, _ = shell(capsys, "new", folder)
    assert code == 0
    assert "data/north.csv" in out
    assert f"  cd {shlex.quote(str(folder))}\n  raysplit train config.yaml --name first\n" in out
    assert (folder / "README.md").read_text().startswith("# my project\n")
    assert (folder / ".gitignore").exists()


def test_a_folder_that_is_not_empty_is_refused_and_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.tex").write_text("ten years of work")
    code, _, err = shell(capsys, "new", tmp_path)
    assert code == 2
    assert f"{tmp_path} is not empty: it has thesis.tex; a new project needs a folder of its own" in err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    code, _, err = shell(capsys, "new", tmp_path / "thesis.tex")
    assert (code, "thesis.tex is a file" in err) == (2, True)


def test_an_empty_folder_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = write_project(Path("."), "own-algorithm")
    assert Path("myalgorithm.py") in files


def test_an_unknown_template_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown template 'own-modle'; did you mean 'own-model'"):
        write_project(tmp_path / "new", "own-modle")
    assert not (tmp_path / "new").exists()
