"""Runs on a cluster of several Ray nodes: where parts are put, equal bits, and what is said when there is no room."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from raysplit.cluster.lab.machines import Lab, lab_from
from raysplit.cluster.lab.processes import start, stop
from raysplit.cluster.on_ray.jobs import alive_nodes

pytestmark = pytest.mark.slow

_CONFIG = """
seed: 5
partition: {num_owners: 4}
algorithm: {name: splitfed_v1, cut: 2}
training: {rounds: 2, max_steps: 2}
cluster: {places: 2, placement_timeout_s: 60}
"""
_TOPOLOGY = """
topology:
  pace: false
  devices:
    pi: {resources: {pi_4: 0.1}, labels: {site: north}, profile: vgg19_mpsl_d1}
    vm: {resources: {edge_vm: 0.5}, profile: vgg19_mpsl_vm}
  owners: pi
  nodes: [vm]
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Four raylets."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], other.getsockname()[1]
    machines = {
        "head": {"cpus": 1},
        "pi_4": {"count": 2, "cpus": 1, "labels": {"site": "north"}},
        "edge_vm": {"cpus": 2},
    }
    name = f"nodes_{os.getpid()}"
    described = lab_from({"name": name, "port": ports[0], "dashboard_port": ports[1], "machines": machines})
    start(described, alive_nodes, timeout_s=180)
    yield described
    stop(name)


def raysplit(folder: Path, *arguments: str, address: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: this one may have a Ray session already."""
    environment = {key: value for key, value in os.environ.items() if key not in ("RAY_AUTH_MODE", "RAY_ADDRESS")}
    environment |= {"RAY_ADDRESS": address} if address else {}
    program = str(Path(sys.executable).parent / "raysplit")
    return subprocess.run(
        [program, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def weights(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / "runs" / name / "model.pt", weights_only=True)
    return content


def test_four_nodes_and_one_process_have_the_same_weights(lab: Lab, tmp_path: Path) -> None:
    """Owners on the boards, the server on the machine of its kind: custom resources and labels say where."""
    (tmp_path / "plain.yaml").write_text(_CONFIG)
    (tmp_path / "placed.yaml").write_text(_CONFIG + _TOPOLOGY)
    spread = ("--set", "cluster.strategy=SPREAD")
    for ended in (
        raysplit(tmp_path, "train", "plain.yaml", "--name", "local", "--set", "cluster.kind=local"),
        raysplit(tmp_path, "train", "plain.yaml", "--name", "spread", *spread, address=lab.address),
        raysplit(tmp_path, "train", "placed.yaml", "--name", "placed", address=lab.address),
    ):
        assert ended.returncode == 0, ended.stderr
    for name in ("spread", "placed"):
        there = weights(tmp_path, name)
        assert all(torch.equal(value, there[key]) for key, value in weights(tmp_path, "local").items())


def test_a_part_without_a_machine_of_its_kind_is_told(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(_CONFIG + _TOPOLOGY.replace("site: north", "site: west"))
    ended = raysplit(
        tmp_path, "train", "c.yaml", "--name", "x", "--set", "cluster.placement_timeout_s=1", address=lab.address
    )
    told = " ".join(ended.stderr.split())
    assert ended.returncode == 1
    assert "after 1 s" in told
    assert "pi_4 lacks the label site=west" in told
    assert "the cluster has no autoscaler" in told


def test_owners_open_their_sources_on_the_machines_that_they_ask_for(lab: Lab, tmp_path: Path) -> None:
    """The source of each owner says so if the place that opens it does not hold the resource that the owner names."""

    def described(name: str) -> str:
        source = {"name": name} if name.endswith("made") else {"name": name, "resource": "pi_4"}
        there = {"resources": {"pi_4": 0.1}, "labels": {"site": "north"}}
        own = {f"clinic-{i}": source | ({} if name.endswith("made") else there) for i in range(2)}
        return json.dumps(
            {
                "model": {"name": "mlp"},
                "data": {"by_owner": own},
                "training": {"rounds": 2, "batch_size": 6, "optimizer": {"lr": 0.1}},
                "cluster": {"places": 2, "placement_timeout_s": 60},
            }
        )

    (tmp_path / "own_sources.py").write_text((Path(__file__).parents[1] / "own_sources.py").read_text())
    (tmp_path / "plain.json").write_text(described("own_sources:made"))
    (tmp_path / "placed.json").write_text(described("own_sources:at_resource"))
    for ended in (
        raysplit(tmp_path, "train", "plain.json", "--name", "local", "--set", "cluster.kind=local"),
        raysplit(tmp_path, "train", "placed.json", "--name", "placed", address=lab.address),
    ):
        assert ended.returncode == 0, ended.stderr
    there = weights(tmp_path, "placed")
    assert all(torch.equal(value, there[key]) for key, value in weights(tmp_path, "local").items())
