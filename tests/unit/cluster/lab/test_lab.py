"""Labs: what a description becomes, what is refused, and that only what was started is ended."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
import pytest

import raysplit
from raysplit.cluster.lab.machines import Machine, lab_from, read_lab, start_arguments
from raysplit.cluster.lab.processes import LabError, find, record_of, stop

EXAMPLE = Path(raysplit.__file__).parents[1] / "examples" / "clusters" / "edge_lab.yaml"
TREE: dict[str, Any] = {
    "name": "two",
    "port": 7001,
    "machines": {
        "board": {"count": 2, "cpus": 3, "memory_gib": 0.5, "resources": {"camera": 2}, "labels": {"site": "north"}},
        "head": {"cpus": 0},
    },
}


def test_every_described_machine_offers_its_kind() -> None:
    head, *boards = lab_from(TREE).machines
    assert head == Machine(name="head", kind="head", cpus=0, resources={"head": 1.0}, labels={"kind": "head"})
    assert [board.name for board in boards] == ["board-1", "board-2"]
    assert boards[0].resources == {"board": 1.0, "camera": 2.0}
    assert boards[0].labels == {"kind": "board", "site": "north"}
    assert (boards[0].cpus, boards[0].memory_bytes) == (3, 2**29)


def test_the_example_is_a_lab() -> None:
    lab = read_lab(EXAMPLE)
    assert [machine.name for machine in lab.machines] == ["head", "pi_4-1", "pi_4-2", "edge_vm"]
    assert (lab.address, lab.dashboard) == ("127.0.0.1:6390", "http://127.0.0.1:8275")


def test_machines_join_the_head() -> None:
    lab = lab_from(TREE)
    head = start_arguments(lab, lab.machines[0], Path("h"))
    board = start_arguments(lab, lab.machines[1], Path("b"))
    assert {"--head", "--port=7001", "--block", "--num-cpus=0", "--temp-dir=h"} <= set(head)
    assert {"--address=127.0.0.1:7001", "--num-cpus=3", f"--memory={2**29}", "--temp-dir=b"} <= set(board)
    assert "--labels=kind=board,site=north" in board
    assert json.loads(next(a for a in board if "--resources=" in a).partition("=")[2]) == {"board": 1.0, "camera": 2.0}
    assert not any("--head" in argument for argument in board)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"machines": {}}, "a mapping of kinds with 'head'"),
        ({"machines": {"head": {"count": 2}}}, "count must be 1, because a cluster has one head, got 2"),
        ({"machines": {"head": {"cpus": -1}}}, "cpus must be a whole number, at least 0, got -1"),
        ({"machines": {"head": {"memory": 1}}}, r"has no key memory \(one of count, cpus"),
        ({"machines": {"head": {}, "b": {"resources": {"x": 0}}}}, "resource x must be a number above 0, got 0"),
        ({"machines": {"head": {}, "b": {"memory_gib": "2"}}}, "memory_gib must be a number above 0"),
        ({"machines": {"head": {}, "b": 3}}, "must be a mapping .* got 3"),
        ({"name": "a-long name"}, "a lab's name must have 1 to 24"),
        ({"port": 80}, "port must be a whole number, 1024 to 65535, got 80"),
        ({"nodes": {}}, "a lab has no key nodes"),
    ],
)
def test_mistakes_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lab_from(TREE | change)


def test_a_file_that_is_no_lab(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("[1, 2]")
    with pytest.raises(ValueError, match="must be a mapping of name, port"):
        read_lab(tmp_path / "lab.yaml")
    with pytest.raises(ValueError, match="cannot be read"):
        read_lab(tmp_path / "none.yaml")


@pytest.fixture
def child() -> Any:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def _record(name: str, *processes: dict[str, Any]) -> None:
    record = {"name": name, "folder": tempfile.mkdtemp(), "address": "127.0.0.1:1", "dashboard": "http://127.0.0.1:2"}
    record_of(name).write_text(json.dumps(record | {"processes": processes}))


def test_only_what_was_started_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[bytes]
) -> None:
    """A process number of the record that belongs to a later process is not ours to end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    created_s = psutil.Process(child.pid).create_time()
    _record("lab", {"machine": "head", "pid": child.pid, "created_s": created_s - 100})
    assert stop("lab") == ()
    assert child.poll() is None
    _record("lab", {"machine": "head", "pid": child.pid, "created_s": created_s})
    running = find("lab")
    assert running is not None
    assert running.alive == ("head",)
    assert stop("lab") == ("head",)
    assert not psutil.pid_exists(child.pid) or psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    assert find("lab") is None


def test_a_record_in_a_shared_place_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, child: subprocess.Popen[bytes]
) -> None:
    """Another user could have laid ``/tmp/rs-lab/lab.json`` there, with process numbers of ours to end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    _record("lab", {"machine": "head", "pid": child.pid, "created_s": psutil.Process(child.pid).create_time()})
    (tmp_path / "rs-lab").mkdir()
    record_of("lab").replace(tmp_path / "rs-lab" / "lab.json")
    assert find("lab") is None
    for name in ("../lab", "/tmp/rs-lab/lab", "a/../b"):
        with pytest.raises(ValueError, match="cannot name a file below a folder"):
            stop(name)
    assert child.poll() is None


def test_no_record_no_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(LabError, match="there is no lab 'ghost'"):
        stop("ghost")
