"""Weights & Biases: a run of a project, online or in a local folder."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from raysplit.trackers.tracker import End, TrackedRun, Tracker


class WandB(Tracker):
    """Tracker that writes a run of Weights & Biases; the round is the axis of all its metrics.

    Args:
        project: the name of the project.
        entity: the user or team; None takes the default of the account.
        mode: ``online``, ``offline`` (``wandb sync`` sends it later), or None for what ``WANDB_MODE`` says.
        dir: the folder in which ``wandb`` has its files; None takes ``WANDB_DIR``, or the working directory.
        tags: tags of the run.
        folder: the run folder.
    """

    name = "wandb"
    package = "wandb"

    def __init__(
        self,
        project: str = "raysplit",
        entity: str | None = None,
        mode: Literal["online", "offline"] | None = None,
        dir: Path | None = None,
        tags: list[str] | None = None,
        *,
        folder: Path | None = None,
    ) -> None:
        super().__init__(folder)
        self._given: dict[str, Any] = {"project": project, "entity": entity, "mode": mode, "tags": tags}
        self._dir = dir  # not the run folder: wandb's links lead out of it, and what leads out is not resumed
        self._run: Any = None

    def begin(self, run: TrackedRun) -> None:
        import wandb

        run_id = str(self.noted().get("run_id") or uuid.uuid4().hex[:12])
        self._run = wandb.init(
            **self._given,
            id=run_id,
            resume="allow",
            name=run.name,
            config=dict(run.settings),
            dir=None if self._dir is None else str(self._dir),
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.note({"run_id": run_id})
        self._run.define_metric("round")
        self._run.define_metric("*", step_metric="round")

    def log(self, round: int, numbers: Mapping[str, float]) -> None:
        self._run.log({"round": round, **numbers})

    def end(self, how: End) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if how == "finished" else 1)
