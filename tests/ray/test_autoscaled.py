"""Ray's autoscaler brings machines for a run and lets them go afterwards; the weights are those of one process.

Needs root for namespaces of its own; asked for by RAYSPLIT_TEST_AUTOSCALER=1.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch

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


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("RAYSPLIT_TEST_AUTOSCALER"), reason="opt in with RAYSPLIT_TEST_AUTOSCALER=1")
def test_machines_come_for_a_run_and_go_after_it() -> None:
    folder = Path(tempfile.mkdtemp(prefix="rs-as", dir="/tmp"))  # short: socket paths below it have a length limit
    try:
        (folder / "c.yaml").write_text(_CONFIG)
        namespaces = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--mount", "--net"]
        script = Path(__file__).with_name("autoscaled.py")
        command = [*namespaces, sys.executable, str(script), str(folder), str(folder / "c.yaml")]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        found = json.loads(ended.stdout.splitlines()[-1])
        assert found == {"exit": 0, "before": 1, "after": 2, "end": 1}
        local = ["train", str(folder / "c.yaml"), "--quiet", "--name", "local", "--set", "cluster.kind=local"]
        local += ["--set", f"output.root={folder}/runs"]
        subprocess.run([sys.executable, "-m", "raysplit", *local], check=True)
        here, there = (
            torch.load(folder / "runs" / name / "model.pt", weights_only=True) for name in ("local", "scaled")
        )
        assert all(torch.equal(value, there[key]) for key, value in here.items())
    finally:
        shutil.rmtree(folder)
