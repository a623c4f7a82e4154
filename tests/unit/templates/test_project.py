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
from raysplit.cluster.lab.machines import Lab, read_lab
from raysplit.cluster.layout import Layout
from raysplit.config.build import build
from raysplit.config.run import load_config
from raysplit.templates.project import TEMPLATES, write_project
from raysplit.training.cluster import ray_layout
from raysplit.training.preflight import deployed_parties

OWN = ("mydata", "mymodel", "myalgorithm")
"""The modules of a project."""


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project of a template, as the working directory."""
    folder = tmp_path / "mine"
    write_project(folder, request.param)
    monkeypatch.chdir(folder)
    before = list(sys.path)
    _forget_own_modules()  # another test may have had one of such a name
    yield folder
    sys.path[:] = before
    _forget_own_modules()


def _forget_own_modules() -> None:
    for name in OWN:
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


def rooms(layout: Layout, lab: Lab) -> dict[str, list[str]]:
    """The places on each machine of a lab, dealt out as Ray's SPREAD does: to the machine that has the fewest."""
    free = {machine.name: {"CPU": machine.cpus, **machine.resources} for machine in lab.machines}
    found: dict[str, list[str]] = {name: [] for name in free}
    for place in layout.places:
        wanted = place.bundle()
        fitting = [name for name in free if all(free[name].get(key, 0) >= amount for key, amount in wanted.items())]
        assert fitting, f"no machine has room for {place}"
        machine = min(fitting, key=lambda name: len(found[name]))
        found[machine].append(place.name)
        for key, amount in wanted.items():
            free[machine][key] -= amount
    return found


@pytest.mark.parametrize("project", ["cluster"], indirect=True)
def test_the_lab_has_room_for_its_run(project: Path) -> None:
    """The README was followed word by word: after a minute there was no room for 9 places on the lab's 4 CPUs."""
    experiment, lab = build(load_config(project / "config.yaml")), read_lab(project / "lab.yaml")
    cpus = float(sum(machine.cpus for machine in lab.machines))
    experiment.algorithm.set_up(experiment.setting)
    parties = deployed_parties(experiment.algorithm)
    found = rooms(ray_layout(experiment, {"CPU": cpus})(parties), lab)
    assert [len(found[name]) for name in ("edge_box-1", "edge_box-2")] == [1, 1]
    assert "place-1-server" in found["server"]


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
