"""Ray's control process dies after the last round: the run is saved, and the command ends with 0."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from support import settings

from raysplit.cli.main import main
from raysplit.cli.progress import Silent
from raysplit.runs.folder import Row


def _kill_control(self: Silent, row: Row) -> None:
    if row["round"] == 2:
        for process in psutil.Process().children(recursive=True):
            if process.name() == "gcs_server":
                os.kill(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_saved_run_ends_with_0(tmp_path: Path) -> None:
    """It waited for a minute, printed Ray's own lines and ended with 1."""
    on_ray = {"kind": "ray", "places": 1, "num_cpus": 2, "object_store_mib": 100}
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(settings(cluster=on_ray)), encoding="utf-8")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, __file__, "train", "x.yaml", "--quiet", "--name", "x"]
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=400
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "control process was lost at the end; the run is not affected" in " ".join(ended.stderr.split())
    assert (tmp_path / "runs" / "x" / "summary.json").exists()


if __name__ == "__main__":
    Silent.round_ended = _kill_control  # type: ignore[method-assign]
    main(sys.argv[1:])
