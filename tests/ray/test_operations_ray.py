"""What Ray's Prometheus endpoint tells of a run, what the places write to their logs, and what another process sees."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

from apart import printed_apart

from raysplit.runs.html.content import run_page
from raysplit.runs.records.tables import read_waits
from raysplit.runs.report import read_runs

_RUN = """
import re, sys, time, urllib.request
from pathlib import Path

import ray
from support import settings

from raysplit.config.run import check_config
from raysplit.api import train_config

port = int(sys.argv[1])
ray.init(
    address="local",
    num_cpus=2,
    object_store_memory=100 * 2**20,
    include_dashboard=False,
    log_to_driver=False,
    _metrics_export_port=port,
    _system_config={"metrics_report_interval_ms": 500},
)
config = check_config(settings(cluster={"places": 2}, output={"name": "scraped"}))
train_config(config, folder=Path("runs/scraped"))  # joins the session, and stays
wanted = set(sys.argv[2:])
deadline_s = time.monotonic() + 60
while time.monotonic() < deadline_s:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
        page = reply.read().decode()
    missing = [name for name in wanted if not re.search(name, page)]
    if not missing:
        break
    time.sleep(0.2)
print("missing", missing)
logs = Path(ray._private.worker.global_worker.node.get_logs_dir_path())
for path in sorted(logs.glob("worker-*.err")):
    print(path.read_text())
ray.shutdown()
"""


def test_metrics_are_scraped_logs_are_labelled_and_the_run_is_watched(tmp_path: Path) -> None:
    """In a process of its own, whose Ray has a metrics port of its own: rounds, speed, links, queues and waits."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script = tmp_path / "run.py"
    script.write_text(_RUN, encoding="utf-8")
    labels = 'algorithm="minibatch_sfl",.*run="scraped"'
    wanted = [
        rf"ray_raysplit_round{{.*{labels}.*}} 2\.0",
        rf"ray_raysplit_samples_per_s{{.*{labels}.*}} \d",
        r'ray_raysplit_link_bytes_total{.*destination="server".*source="owner-2".*} \d',
        r'ray_raysplit_queue_depth{.*party="server".*} [1-9]',
        r'ray_raysplit_wait_seconds_total{.*party="owner-0".*} \d',
    ]
    command = [sys.executable, "-m", "raysplit", "watch", "scraped", "--every", "0.1", "--wait", "200"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as watching:
        try:
            printed = printed_apart(script, port, *wanted, cwd=tmp_path, timeout_s=200)
            seen = watching.communicate(timeout=60)[0].splitlines()
        finally:
            watching.kill()
    assert "missing []" in printed, printed[-3000:]
    lines = [line for line in printed.splitlines() if "samples in" in line]
    assert len(lines) == 6  # three owners, two rounds
    assert any("DEBUG [place-1 owner-1] raysplit.actors.records: owner-1, round 2: loss" in line for line in lines)
    assert watching.returncode == 0
    assert seen[0] == "waiting for the run to begin"
    assert "no round of 2 yet, running" in seen
    assert seen[-1] == "runs/scraped has ended: all rounds done"
    folder = tmp_path / "runs" / "scraped"
    waited = {wait.party: {each.party: each.wait_s for each in wait.waited_for} for wait in read_waits(folder)}
    assert {"owner-0", "owner-1", "owner-2"} <= waited.keys()
    assert waited["owner-0"]["server"] > 0
    (run,) = read_runs([folder])
    assert any(bar.label == "owner-0" and "for server" in bar.text for bar in run_page(0, run).waits)
