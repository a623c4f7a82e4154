"""Exit codes are those of the documentation, in both ways in, and names of runs are checked at once."""

from __future__ import annotations

import io
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import shell

from raysplit.cli.machines import doctor as doctor_module
from raysplit.cli.machines.doctor import Finding, left_of_ray
from raysplit.cli.main import cli
from raysplit.cli.streams import Console

LOCAL = ["--set", "cluster.kind=local", "--set", "training.rounds=1", "--set", "training.max_steps=1", "--quiet"]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["plan"],
        ["plan", "missing.yaml"],
        ["profile", "--model", "no_such_net"],
        ["profile", "--model", "mlp", "--output", "no/folder/p.csv"],
        ["serve", "nobody"],
        ["edge", "nobody", "a.png", "--server", "http://127.0.0.1:1"],
        ["affinity", "nobody"],
        ["compare", "nobody"],
        ["report", "nobody"],
        ["export", "nobody", "a.pt"],
        ["show", "nobody"],
        ["resume", "nobody"],
        ["simulate", "missing.yaml"],
        ["sweep", "--over", "seed"],
        ["sweep", "--over", "seed=1,2", "--set", "output.root=s3://bucket/runs"],
        ["submit", "missing.yaml", "--address", "http://127.0.0.1:1"],
        ["train", "--set", "$NO_SUCH_PLACE/x=1"],
        ["train", "$NO_SUCH_PLACE/x.yaml"],
        ["cluster", "up", "missing.yaml"],
        ["trian"],
    ],
    ids=" ".join,
)
def test_a_mistake_of_the_user_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """``plan``, ``profile``, ``serve`` and ``edge`` ended with 1, where docs/errors.md promises 2."""
    code, _, err = shell(capsys, *arguments)
    assert code == 2
    assert "Traceback" not in err
    assert not list(Path().iterdir())


@pytest.mark.parametrize(("state", "code"), [("bad", 1), ("good", 0)])
def test_the_module_ends_with_the_code_of_the_command(state: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """``python -m raysplit`` ended a failed submit, doctor and cluster status with 0."""
    finding = Finding(name="packages", state=state, found="")  # type: ignore[arg-type]
    monkeypatch.setattr(doctor_module, "CHECKS", (lambda: finding,))
    monkeypatch.setattr(sys, "argv", ["raysplit", "doctor"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("raysplit", run_name="__main__")
    assert (ended.value.code or 0) == code


def test_the_doctor_tells_a_pipe_in_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe has no width: the table came with lines of as many columns as its longest cells take."""
    bad = Finding(name="disk", state="bad", found="1 GiB free", advice="make room " * 20)
    monkeypatch.setattr(
        doctor_module, "CHECKS", (lambda: Finding(name="Python", state="good", found="3.12"), lambda: bad)
    )
    code, out, _ = shell(capsys, "doctor")
    assert code == 1
    assert out.splitlines()[:2] == ["ok      Python: 3.12", "bad     disk: 1 GiB free"]
    assert out.splitlines()[2].startswith("        make room")


def test_the_doctor_names_what_is_left_of_a_ray_that_has_ended() -> None:
    """Agents of Ray lived on when a driver had been killed, and nothing said so."""
    agent = [sys.executable, "-c", "input()", "site-packages/ray/dashboard/agent.py"]
    with subprocess.Popen(agent, stdin=subprocess.PIPE) as left:
        found = left_of_ray()
        left.communicate(b"\n")
    assert (found.name, found.state) == ("left of Ray", "warning")
    assert str(left.pid) in found.advice.partition("kill ")[2].split()
    assert str(left.pid) not in left_of_ray().advice


def test_a_command_that_is_stopped_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C in the seconds of the imports ended without a word."""

    def stopped() -> Finding:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor_module, "CHECKS", (stopped,))
    code, _, err = shell(capsys, "doctor")
    assert (code, err.splitlines()[-1]) == (130, "stopped")


def test_an_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "No such command 'Trian'; did you mean 'train'?" in shell(capsys, "Trian")[2]


def test_a_table_may_be_read_to_its_first_lines_alone() -> None:
    """``raysplit inspect digits | head`` said that own code had ended the program: rich exits by itself."""

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Console(file=Closed()).print("a line")


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 3 TiB"), BrokenPipeError()])
def test_memory_and_closed_pipes_end_in_no_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(**_: object) -> None:
        raise error

    with (tmp_path / "out").open("w", encoding="utf-8") as file:
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(fileno=file.fileno, flush=lambda: None, write=len))
        monkeypatch.setattr(cli, "main", fail)
        code, _, err = shell(capsys, "list")
    assert code == 1
    assert ("not enough memory: Unable to allocate 3 TiB" in err) == isinstance(error, MemoryError)


@pytest.mark.parametrize("name", ["../x", ".", "a b", "--help", "a\nb", "", "a\\b", "/tmp/x", "é"])
@pytest.mark.parametrize("command", ["train", "sweep", "submit"])
def test_a_name_that_cannot_be_typed_again_is_refused_at_once(
    command: str, name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """``--name ../x`` left the folder of the runs, and ``--name=--help`` made a run that nobody could resume."""
    more = {"train": [], "sweep": ["--over", "seed=1,2"], "submit": ["my.yaml", "--address", "http://127.0.0.1:1"]}
    code, _, err = shell(capsys, command, *more[command], f"--name={name}")
    assert code == 2
    assert "cannot be the name of a run: a name has letters a-z, digits and . _ -" in " ".join(err.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["2026-01-02", "null", "0123"])
def test_a_name_is_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """``--name 123``, ``--name 2026-01-02`` and ``--name no`` were parsed as YAML and refused."""
    code, out, err = shell(capsys, "train", *LOCAL, "--name", name)
    assert code == 0, err
    assert f"run folder: runs/{name}\n" in out


def test_home_in_settings_and_options(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--set output.root=~/runs`` failed and left a folder named ``~``."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    code, out, _ = shell(capsys, "train", *LOCAL, "--set", "output.root=~/runs", "--name", "a")
    assert (code, f"run folder: {tmp_path}/home/runs/a\n" in out) == (0, True)
    assert shell(capsys, "export", "~/runs/a", "$HOME/a.pt")[0] == 0
    assert (tmp_path / "home" / "a.pt").exists()
    assert "a" in shell(capsys, "list", "--root", "~/runs")[1]
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_runs_without_a_name_do_not_collide(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Of eight runs that began in the same second, seven were refused."""
    for _ in range(2):
        assert shell(capsys, "train", *LOCAL)[0] == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2
