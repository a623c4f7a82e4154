"""Ray's autoscaler brings machines for a run and lets them go afterwards; the weights are those of one process.

An elastic run begins with the machines that are there and takes in the others; one that is preempted is replaced.

Needs root for namespaces of its own; asked for by RAYSPLIT_TEST_AUTOSCALER=1.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
import yaml
from coming import replayed

from raysplit.config.build import build
from raysplit.config.run import check_config
from raysplit.training.loop import run

_CONFIG = """
seed: 5
partition: {num_owners: 3}
algorithm: {name: splitfed_v1, cut: 2}
training: {rounds: 2, max_steps: 2}
cluster: {places: 2, placement_timeout_s: 120}
topology:
  pace: false
  devices:
    any: {resources: {compute_node: 1}, profile: vgg19_mpsl_d1}
  owners: any
  nodes: [any]
"""


_ELASTIC = """
seed: 5
partition: {num_owners: 4}
algorithm: {name: fedavg}
training: {rounds: 40, local_epochs: 4, batch_size: 16}
evaluation: {every: 40}
cluster: {places: 2, placement_timeout_s: 120, elastic: {min_places: 1, cpus_per_place: 2, wait_s: 120}}
reliability: {on_lost_place: restart}
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rs-as", dir="/tmp"))  # short: socket paths below it have a length limit
    yield path
    shutil.rmtree(path)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.environ.get("RAYSPLIT_TEST_AUTOSCALER"), reason="opt in with RAYSPLIT_TEST_AUTOSCALER=1"),
]


def scaled(folder: Path, config: str, *more: str) -> dict[str, int]:
    """What the script prints of a run under the autoscaler."""
    (folder / "c.yaml").write_text(config)
    namespaces = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--net"]
    script = Path(__file__).with_name("autoscaled.py")
    command = [*namespaces, sys.executable, str(script), str(folder), str(folder / "c.yaml"), *more]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, int] = json.loads(ended.stdout.splitlines()[-1])
    return found


def weights(folder: Path, name: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / "runs" / name / "model.pt", weights_only=True)
    return found


def test_machines_come_for_a_run_and_go_after_it(folder: Path) -> None:
    assert scaled(folder, _CONFIG) == {"exit": 0, "before": 1, "after": 2, "end": 1}
    local = ["train", str(folder / "c.yaml"), "--quiet", "--name", "local", "--set", "cluster.kind=local"]
    subprocess.run([sys.executable, "-m", "raysplit", *local, "--set", f"output.root={folder}/runs"], check=True)
    assert_same(weights(folder, "local"), weights(folder, "scaled"))


def test_an_elastic_run_grows_and_survives_a_preempted_machine(folder: Path) -> None:
    assert scaled(folder, _ELASTIC, "preempt") == {"exit": 0, "before": 1, "after": 3, "end": 1}
    rows = [json.loads(line) for line in (folder / "runs" / "scaled" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 40
    assert rows[-1]["num_places"] == 2
    config = check_config(yaml.safe_load(_ELASTIC))
    cluster = replayed(rows, [f"owner-{i}" for i in range(4)])
    assert_same(asyncio.run(run(build(config), cluster)).states["global"], weights(folder, "scaled"))


def assert_same(here: Mapping[str, torch.Tensor], there: Mapping[str, torch.Tensor]) -> None:
    assert here.keys() == there.keys()
    assert all(torch.equal(value, there[key]) for key, value in here.items())
