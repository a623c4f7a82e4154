"""Jobs on a real Ray head that was started as a process of its own: exit codes, logs, shipped code, equal bits."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from raysplit.api import train_config
from raysplit.cluster.lab.machines import Lab, lab_from
from raysplit.cluster.lab.processes import LabError, find, start, stop
from raysplit.cluster.on_ray.connect import RayUnreachable
from raysplit.cluster.on_ray.job_files import Job
from raysplit.cluster.on_ray.jobs import JobClient, alive_nodes, files_to_send
from raysplit.config.run import check_config

_CONFIG = """
seed: 3
model: {name: "own_net:net"}
partition: {num_owners: 3}
algorithm: {name: splitfed_v1, cut: 2}
training: {rounds: 2, max_steps: 2}
cluster: {places: 2}
"""
_NET = """
from torch import nn

def net(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, num_classes))
"""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One machine, with ports of its own."""
    port, dashboard_port = _free_ports(2)
    name = f"job_{os.getpid()}"
    described = lab_from(
        {"name": name, "port": port, "dashboard_port": dashboard_port, "machines": {"head": {"cpus": 2}}}
    )
    start(described, alive_nodes, timeout_s=120)
    yield described
    stop(name)


async def _run(client: JobClient, job: Job) -> tuple[list[str], int]:
    job_id = client.submit(job)
    lines = [line async for line in client.output(job_id)]
    return lines, (await client.exit_code(job_id))[0]


def test_the_exit_code_and_the_output_of_a_job_come_back(lab: Lab) -> None:
    lines, code = asyncio.run(_run(JobClient(lab.dashboard), Job(entrypoint="echo here; exit 7", folder="")))
    assert code == 7
    assert "here" in lines


def test_a_wrong_token_is_told(lab: Lab) -> None:
    script = f"from raysplit.cluster.on_ray.jobs import JobClient; JobClient({lab.dashboard!r})"
    environment = os.environ | {"RAY_AUTH_TOKEN": "wrong" * 8}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert "RayUnreachable: no job could be submitted" in ended.stderr
    assert "authentication token" in ended.stderr


def test_nobody_at_the_address() -> None:
    with pytest.raises(RayUnreachable, match="Give the address of the cluster's dashboard"):
        JobClient(f"http://127.0.0.1:{_free_ports(1)[0]}")


def test_a_lab_that_is_up_is_not_started_again(lab: Lab) -> None:
    running = find(lab.name)
    assert running is not None
    assert running.alive == ("head",)
    with pytest.raises(LabError, match=r"is up at .*; end it first"):
        start(lab, alive_nodes)


def test_only_what_ray_would_send_is_sent(tmp_path: Path) -> None:
    for name in ("a.py", "big.bin", "__pycache__/a.pyc", "runs/x/model.pt", "nets/runs.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / ".gitignore").write_text("*.bin\n")
    found = files_to_send(tmp_path, ["__pycache__", "/runs"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.py", "nets/runs.py"]


def test_a_run_on_a_head_that_is_up_has_the_weights_of_one_process(lab: Lab, tmp_path: Path) -> None:
    """A sample of the matrix below."""
    tree = yaml.safe_load(_CONFIG) | {"model": {"name": "mlp", "hidden": [8]}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(tree))
    attached = [str(Path(sys.executable).parent / "raysplit"), "train", "c.yaml", "--quiet", "--name", "attached"]
    clean = {key: value for key, value in os.environ.items() if key != "RAY_AUTH_MODE"} | {"RAY_ADDRESS": lab.address}
    ended = subprocess.run(attached, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    here = train_config(check_config(tree | {"cluster": {"kind": "local"}})).states["global"]
    there = torch.load(tmp_path / "runs" / "attached" / "model.pt", weights_only=True)
    assert all(torch.equal(value, there[key]) for key, value in here.items())


@pytest.mark.slow
def test_submitted_attached_and_local_runs_have_the_same_weights(lab: Lab, tmp_path: Path) -> None:
    """The model is the user's own code, which reaches the job with the configuration; results come by the folder."""
    (tmp_path / "own_net.py").write_text(_NET)
    (tmp_path / "c.yaml").write_text(_CONFIG)
    program = str(Path(sys.executable).parent / "raysplit")
    runs = ["--set", f"output.root={tmp_path / 'runs'}"]

    def command(*arguments: str, **environment: str) -> str:
        clean = {key: value for key, value in os.environ.items() if key != "RAY_AUTH_MODE"}
        clean |= {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]), **environment}
        ended = subprocess.run(
            [program, *arguments], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stderr + ended.stdout
        return ended.stdout

    printed = command("submit", "c.yaml", "--address", lab.dashboard, "--working-dir", ".", *runs, "--name", "job")
    assert f"run folder: {tmp_path / 'runs' / 'job'}" in printed
    assert printed.count("round ") == 2
    command("train", "c.yaml", *runs, "--name", "attached", "--quiet", RAY_ADDRESS=lab.address)
    command("train", "c.yaml", *runs, "--name", "local", "--quiet", "--set", "cluster.kind=local")

    def weights(name: str) -> dict[str, Any]:
        content: dict[str, Any] = torch.load(tmp_path / "runs" / name / "model.pt", weights_only=True)
        return content

    for name in ("job", "attached"):
        assert all(torch.equal(value, weights("local")[key]) for key, value in weights(name).items())
