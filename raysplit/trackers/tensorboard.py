"""TensorBoard: event files in the run folder, below ``tensorboard``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysplit.runs.records.files import EVENTS
from raysplit.trackers.tracker import End, TrackedRun, Tracker


class TensorBoard(Tracker):
    """Tracker that writes event files: ``tensorboard --logdir runs`` shows all runs.

    Args:
        log_dir: the folder of the event files; None takes ``tensorboard`` in the run folder, or ``runs/tensorboard``
            where there is none.
        folder: the run folder.
    """

    name = "tensorboard"
    package = "tensorboard"

    def __init__(self, log_dir: Path | None = None, *, folder: Path | None = None) -> None:
        super().__init__(folder)
        self._log_dir = log_dir or (folder / EVENTS if folder else Path("runs") / EVENTS)
        self._writer: Any = None
        self._last = 0
        self._settings = ""

    def begin(self, run: TrackedRun) -> None:
        lines = [f"    {key}: {value}" for key, value in run.settings.items()]  # Markdown shows them letter by letter
        self._settings = "\n".join([run.algorithm, "", *lines])

    def log(self, round: int, numbers: Mapping[str, float]) -> None:
        if self._writer is None or round <= self._last:
            self._open(round)
        for key, value in numbers.items():
            self._writer.add_scalar(key, value, round)
        self._writer.flush()
        self._last = round

    def _open(self, round: int) -> None:
        """Begin an event file from whose first round on all earlier files count no more, as after a resume."""
        from torch.utils.tensorboard import SummaryWriter

        if self._writer is not None:
            self._writer.close()
        self._writer = SummaryWriter(str(self._log_dir), purge_step=round)
        self._writer.add_text("settings", self._settings, round)

    def end(self, how: End) -> None:
        if self._writer is not None:
            self._writer.close()
