"""``raysplit list``: every run with its whole name, wherever it is below the root."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from commands import shell
from rich.console import Console

from raysplit.cli.results import runs as runs_module
from raysplit.runs.folder import held
from raysplit.runs.listing import listing

OLD = Path(__file__).parents[3] / "data" / "runs_0_1"
CELL = "sweep-digits/cells/partition.alpha=0.1,algorithm.name=minibatch_sfl,training.optimizer.lr=0.0003,seed=12"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with runs beside, in a demonstration and in a sweep."""
    monkeypatch.chdir(tmp_path)
    for name, source in {"one": "mtsl", "demo-1/fedavg": "fedavg-cut", CELL: "minibatch_sfl"}.items():
        shutil.copytree(OLD / source, tmp_path / "runs" / name)
    return tmp_path


def test_nested_runs_are_listed_with_whole_names(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ``make demo`` there were "no runs in runs", and names were cut at 80 columns, in pipes too."""
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = shell(capsys, "list")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["run", "demo-1/fedavg", "one", CELL]
    assert lines[0].split() == ["run", "date", "algorithm", "rounds", "result", "state"]
    assert lines[1].split()[3:] == ["fedavg", "2", "of", "3", "not", "evaluated", "cut", "short"]
    assert lines[-1] == "to go on with a run that is cut short: raysplit resume runs/demo-1/fedavg"
    for name in ("demo-1/fedavg", "one", CELL):
        assert shell(capsys, "show", name)[0] == 0


def test_a_root_that_is_a_file_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There were "no runs in f", as if it were a folder without any."""
    (here / "f").touch()
    code, _, err = shell(capsys, "list", "--root", "f")
    assert (code, err) == (2, "error: --root is 'f', which is a file; set it to the folder that holds the runs\n")


def test_a_narrow_terminal_shows_whole_names_too(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs_module, "Console", lambda: Console(force_terminal=True, width=80, color_system=None))
    lines = shell(capsys, "list")[1].splitlines()
    assert lines[4] == CELL
    assert lines[5].endswith("minibatch_sfl, 3 of 3, accuracy 0.4167, all rounds done")


def test_a_diverged_run_is_not_gone_on_with(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``list`` advised ``resume``, which ends in the same bad loss."""
    path = here / "runs" / "one" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"stopped": "diverged"}), encoding="utf-8")
    shutil.rmtree(here / "runs" / "demo-1")
    _, out, _ = shell(capsys, "list")
    assert "resume" not in out
    assert "one diverged: train again under another name with a lower training.optimizer.lr" in out
    _, out, _ = shell(capsys, "show", "one")
    assert "diverged; train again under another name" in out
    _, out, _ = shell(capsys, "compare", "one")
    assert "diverged after 3 of" in out


def test_programs_get_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {run["name"]: run for run in json.loads(shell(capsys, "list", "--json")[1])}
    assert set(found) == {"one", "demo-1/fedavg", CELL}
    assert found["one"]["location"] == "runs/one"
    assert found["one"]["test_accuracy"] == pytest.approx(0.7111, abs=1e-4)
    assert found["demo-1/fedavg"]["state"] == "cut short"
    assert found["one"]["started"] is None
    assert found["one"]["changed"].startswith("20")
    assert json.loads(shell(capsys, "list", "--json", "--root", "nowhere")[1]) == []


def test_the_start_of_a_run_is_kept_when_it_goes_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = here / "runs/demo-1/fedavg/environment.json"
    content = {**json.loads(path.read_text(encoding="utf-8")), "started": "2026-01-02T03:04:05+00:00"}
    path.write_text(json.dumps(content), encoding="utf-8")
    assert shell(capsys, "resume", "demo-1/fedavg", "--quiet")[0] == 0
    found = listing("x", "x", here / "runs/demo-1/fedavg")
    assert (found.started, found.state) == ("2026-01-02T03:04:05+00:00", "all rounds done")
    assert found.changed is not None
    assert found.changed > found.started


def test_a_run_that_is_being_written_is_running(here: Path) -> None:
    folder = here / "runs/demo-1/fedavg"
    with held(folder):
        assert listing("x", "x", folder).state == "running"
    (folder / ".lock").touch()  # as a killed process leaves it
    assert listing("x", "x", folder).state == "cut short"


@pytest.mark.parametrize(
    ("file", "content"),
    [("config.yaml", "training: ["), ("config.yaml", "[]"), ("summary.json", "{"), ("metrics.jsonl", "{x}")],
)
def test_a_damaged_run_does_not_hide_the_others(
    file: str, content: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "runs/one" / file).write_text(content, encoding="utf-8")
    code, out, _ = shell(capsys, "list")
    assert code == 0
    assert "unreadable: " in out
    assert CELL in out


def test_a_configuration_of_ones_own_is_no_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "runs/config.yaml").write_text("seed: 1\n", encoding="utf-8")
    assert len(json.loads(shell(capsys, "list", "--json")[1])) == 3


@pytest.mark.parametrize("command", ["compare", "report", "show", "export", "resume", "affinity", "serve", "edge"])
def test_every_command_takes_names_and_paths(
    command: str, here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``compare``, ``report``, ``affinity``, ``serve`` and ``edge`` refused names that ``show`` takes."""
    shutil.copytree(OLD / "mas", here / "runs/tasks")
    more = {"export": ["a.pt", "--model", "s"], "edge": ["a.png", "--server", "http://127.0.0.1:1"]}.get(command, [])
    answers = []
    for run in ("tasks", "runs/tasks", here / "runs/tasks"):
        code, _, err = shell(capsys, command, run, *more)
        answers.append((code, err.replace(f"{here}/", "") if command in ("resume", "serve", "edge") else err))
    assert answers[0] == answers[1] == answers[2]
    assert "is not a run folder" not in answers[0][1]
    assert (answers[0][0] == 0) == (command not in ("resume", "serve", "edge"))  # finished, and without an export
