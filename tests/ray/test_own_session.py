"""The Ray that a run starts for itself is closed to the network, and to whoever has another token."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

_JOIN = "import sys; from ray._raylet import GcsClient; print(len(GcsClient(address=sys.argv[1]).get_all_node_info()))"


def test_nothing_of_a_local_ray_listens_to_the_network(ray_session: dict[str, float]) -> None:
    """Ray's control process, raylets, agents, workers and the driver listened on all interfaces."""
    driver = psutil.Process()
    processes = [driver, *driver.children(recursive=True)]
    sockets = [one for process in processes for one in process.net_connections("inet")]
    listening = [one.laddr for one in sockets if one.status == "LISTEN"]
    assert len(listening) > 5
    assert {address.ip.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}


@pytest.mark.parametrize("token", [None, "0" * 64])
def test_a_stranger_is_refused(ray_session: dict[str, float], token: str | None) -> None:
    """A local Ray took the token in the user's home folder, which all of the user's clusters have."""
    import ray

    variables = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    variables |= {"RAY_AUTH_MODE": "token", **({"RAY_AUTH_TOKEN": token} if token else {})}
    address = ray.get_runtime_context().gcs_address
    joined = subprocess.run([sys.executable, "-c", _JOIN, address], env=variables, capture_output=True, text=True)
    assert joined.returncode != 0
    assert "uthenticat" in joined.stderr
