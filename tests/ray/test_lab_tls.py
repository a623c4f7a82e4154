"""A lab with TLS: two Ray nodes talk to each other and to a driver, and to nobody without a certificate of the lab."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from raysplit.cluster.lab.certificates import DRIVER, make_certificates, variables

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]  # Ray tries 40 s before it gives up

_JOIN = "import sys; from ray._raylet import GcsClient; print(len(GcsClient(address=sys.argv[1]).get_all_node_info()))"


def test_a_run_on_two_nodes_with_tls(tmp_path: Path) -> None:
    """Between machines everything was sent in the open, and certificates were left to the user."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], other.getsockname()[1]
    name, address = f"tls_{os.getpid()}", f"127.0.0.1:{ports[0]}"
    lab = f"name: {name}\nport: {ports[0]}\ndashboard_port: {ports[1]}\nmachines: {{head: {{}}, pi: {{}}}}\n"
    (tmp_path / "lab.yaml").write_text(lab)
    environment = {key: value for key, value in os.environ.items() if key not in ("RAY_ADDRESS", "RAY_AUTH_MODE")}

    def command(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "raysplit", *arguments]
        return subprocess.run(words, cwd=tmp_path, env=environment | more, capture_output=True, text=True)

    up = command("cluster", "up", "lab.yaml", "--tls")
    try:
        found = re.search("source (.*)", up.stdout)
        assert found is not None, up.stderr
        (file,) = shlex.split(found[1])
        own = variables(Path(file).parent, DRIVER)
        cluster = [f"cluster.address={address}", "cluster.places=2", "cluster.strategy=STRICT_SPREAD"]
        settings = [*cluster, "training.rounds=1", "training.max_steps=2", "partition.num_owners=4"]
        train = ["train", "--quiet", *(word for setting in settings for word in ("--set", setting))]
        trained = command(*train, "--name", "tls", **own)
        assert trained.returncode == 0, trained.stderr
        make_certificates(tmp_path / "others", [])
        others = variables(tmp_path / "others", DRIVER)
        for wrong in ({}, others, others | {"RAY_TLS_CA_CERT": own["RAY_TLS_CA_CERT"]}):
            refused = command(*train, "--name", "refused", **wrong)
            assert refused.returncode == 1
            assert "Ray could not be reached" in refused.stderr
        stranger = environment | {"RAY_AUTH_MODE": "token"} | others
        joined = subprocess.run([sys.executable, "-c", _JOIN, address], env=stranger, capture_output=True, text=True)
        assert joined.returncode != 0  # Ray refuses them itself, too
    finally:
        command("cluster", "down", name)
    local = ["cluster.kind=local", *settings[3:]]
    command("train", "--quiet", "--name", "local", *(word for setting in local for word in ("--set", setting)))
    ours, same = (torch.load(tmp_path / "runs" / each / "model.pt", weights_only=True) for each in ("tls", "local"))
    assert all(torch.equal(ours[key], same[key]) for key in same)
