"""MLflow: a run in a tracking server or in a local store."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raysplit.trackers.tracker import End, TrackedRun, Tracker

_STATUS = {"finished": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}
_USUAL = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # MLflow's own waits minutes for a server that does not answer
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # a folder is what mlflow-skinny can write without a database
}
"""Settings of MLflow where the user's environment has none."""
_MOST_PARAMS = 100  # of a batch
_MOST_TEXT = 500  # characters of a parameter that every store takes


class MLflow(Tracker):
    """Tracker that writes a run of MLflow: settings as parameters, a metric for every number of a round.

    Args:
        uri: the tracking URI, or a folder for a local store; None takes ``MLFLOW_TRACKING_URI``, or the folder
            ``mlruns``.
        experiment: the name of the experiment.
        tags: further tags of the run.
        folder: the run folder.
    """

    name = "mlflow"
    package = "mlflow"

    def __init__(
        self,
        uri: str | None = None,
        experiment: str = "raysplit",
        tags: dict[str, str] | None = None,
        *,
        folder: Path | None = None,
    ) -> None:
        super().__init__(folder)
        self._uri = uri
        self._experiment = experiment
        self._tags = tags or {}
        self._client: Any = None
        self._run_id = ""

    def begin(self, run: TrackedRun) -> None:
        for key, value in _USUAL.items():
            os.environ.setdefault(key, value)
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(tracking_uri=_store(self._uri or os.environ.get("MLFLOW_TRACKING_URI") or "mlruns"))
        known = self.noted().get("run_id")
        if known is not None:
            self._run_id = str(known)
            self._client.update_run(self._run_id, status="RUNNING")
            return
        found = self._client.get_experiment_by_name(self._experiment)
        experiment_id = found.experiment_id if found else self._client.create_experiment(self._experiment)
        tags = {"raysplit.algorithm": run.algorithm, **self._tags}
        self._run_id = self._client.create_run(experiment_id, run_name=run.name, tags=tags).info.run_id
        self.note({"run_id": self._run_id})
        params = [Param(_plain(key), str(value)[:_MOST_TEXT]) for key, value in run.settings.items()]
        for first in range(0, len(params), _MOST_PARAMS):
            self._client.log_batch(self._run_id, params=params[first : first + _MOST_PARAMS])

    def log(self, round: int, numbers: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        metrics = [Metric(_plain(key), value, now_ms, round) for key, value in numbers.items()]
        self._client.log_batch(self._run_id, metrics=metrics)

    def end(self, how: End) -> None:
        if self._run_id:
            self._client.set_terminated(self._run_id, status=_STATUS[how])


def _store(uri: str) -> str:
    """Return a tracking URI; a path becomes that of a local store."""
    is_uri = "://" in uri or uri.startswith(("file:", "databricks", "uc"))
    return uri if is_uri else Path(uri).resolve().as_uri()


def _plain(key: str) -> str:
    # the characters that MLflow takes in names
    return re.sub(r"[^\w\-. :/]", "_", key, flags=re.ASCII)
