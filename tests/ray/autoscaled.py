"""Scale up for a run, train, scale down: Ray's autoscaler with its fake machines, in this process's own namespaces.

    unshare --pid --fork --kill-child --mount-proc --mount --net python tests/ray/autoscaled.py FOLDER CONFIG [preempt]

With ``preempt`` the process of one machine is killed as soon as a round had two places.

Prints one JSON object: the run's exit code, and how many machines there were before, after the run and at the end.
The head is a child of this process and ends with it; everything else ends with the namespace.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from raysplit.cluster.on_ray.jobs import alive_nodes

PORT = 6379
_DEADLINE_S = 150
_COMMANDS = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
_EMPTY = (*_COMMANDS, "head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude")


def fake_cluster() -> dict[str, Any]:
    kinds = {
        "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "compute_node": {
            "resources": {"CPU": 2, "compute_node": 2},
            "node_config": {},
            "min_workers": 0,
            "max_workers": 2,
        },
    }
    head_id = "f" * 55 + "1"
    return {
        "cluster_name": "fake",
        "max_workers": 2,
        "provider": {"type": "fake_multinode", "head_node_id": head_id, "use_node_id_as_ip": True},
        "available_node_types": kinds,
        "head_node_type": "head",
        "upscaling_speed": 20.0,
        "idle_timeout_minutes": 0.1,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        **{key: [] for key in _EMPTY},
    }


def settled(wanted: int) -> int:
    """The number of machines once it is as wanted, or when time is up."""
    end, found = time.monotonic() + _DEADLINE_S, -1
    while time.monotonic() < end and found != wanted:
        found = len(alive_nodes(f"127.0.0.1:{PORT}"))
        time.sleep(0.5)
    return found


def preempt_one(folder: Path, run: subprocess.Popen[bytes]) -> None:
    """Kill a machine that the autoscaler has started, once a round has been trained on two places."""
    metrics = folder / "runs" / "scaled" / "metrics.jsonl"
    while run.poll() is None:
        rows = metrics.read_text(encoding="utf-8").splitlines() if metrics.exists() else []
        if any(json.loads(row)["num_places"] == 2 for row in rows if row.endswith("}")):
            raylets = [process for process in psutil.process_iter() if process.name() == "raylet"]
            min((p for p in raylets if "--head" not in p.cmdline()), key=lambda p: p.pid).kill()
            return
        time.sleep(0.05)
    raise RuntimeError("the run ended before it had two places")


def main(folder: Path, config: Path, *, preempts: bool) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    (folder / "cluster.json").write_text(json.dumps(fake_cluster()))
    environment = os.environ | {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_AUTH_MODE": "token"}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={PORT}"]
    command += ["--num-cpus=0", "--object-store-memory=100000000", "--disable-usage-stats", f"--temp-dir={folder}/r"]
    command += [f"--autoscaling-config={folder}/cluster.json", "--node-ip-address=127.0.0.1"]
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        before = settled(1)
        run = [sys.executable, "-m", "raysplit", "train", str(config), "--set", f"output.root={folder}/runs"]
        address = {"RAY_ADDRESS": f"127.0.0.1:{PORT}"}
        with subprocess.Popen([*run, "--name", "scaled", "--quiet"], env=environment | address) as running:
            if preempts:
                preempt_one(folder, running)
            code = running.wait()
        after = len(alive_nodes(f"127.0.0.1:{PORT}"))
        print(json.dumps({"exit": code, "before": before, "after": after, "end": settled(1)}))
    finally:
        head.terminate()
        head.wait(60)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), preempts=sys.argv[3:] == ["preempt"])
