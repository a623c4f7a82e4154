"""A script in a process of its own, for what this one cannot do beside its Ray session."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def printed_apart(script: Path, *arguments: object, cwd: Path | None = None, timeout_s: float = 280) -> str:
    """What the script prints, which finds the tests' modules and no Ray; fails with its words where it fails."""
    path = os.pathsep.join([*sys.path, str(HERE), str(HERE / "ray")])
    environment = {**os.environ, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(
        [sys.executable, str(script), *map(str, arguments)],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout_s,
    )
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return done.stdout
