"""A program: a run whose driver is killed after a round, so that nothing is cleaned up and nothing written at the end.

Arguments: configuration, folder of the run, round.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from support import settings

from raysplit.api import train_config
from raysplit.config.run import load_config
from raysplit.runs.callback import Callback
from raysplit.runs.folder import Row


class Suicide(Callback):
    """Kills its own process once a round has been recorded."""

    def __init__(self, after: int) -> None:
        self._after = after

    def round_ended(self, row: Row) -> None:
        if row["round"] == self._after:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_driver(folder: Path, after: int = 2, **changes: Any) -> None:
    """Run the base settings with these changes in ``folder`` until the driver is killed."""
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(settings(**changes)), encoding="utf-8")
    here = str(Path(__file__).parent)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([here, *sys.path])}
    environment.pop("RAY_ADDRESS", None)
    arguments = [sys.executable, __file__, str(path), str(folder), str(after)]
    ended = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False, timeout=250)
    assert ended.returncode == -signal.SIGKILL, ended.stderr[-3000:]
    assert not (folder / "summary.json").exists()


if __name__ == "__main__":
    train_config(load_config(Path(sys.argv[1])), folder=Path(sys.argv[2]), callbacks=[Suicide(int(sys.argv[3]))])
