"""What a list of runs says about each: algorithm, progress, result, state and dates, read without loading weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from raysplit.experiment.titles import TRAININGS
from raysplit.paths import is_uri
from raysplit.runs.folder import is_held
from raysplit.runs.records.damaged import Damaged
from raysplit.runs.records.read import Row, read_outline, read_rows, read_summary, started_at, stop_of

T = TypeVar("T")

TESTED = ("test_accuracy", "test_loss", "primary", "primary_metric", "primary_naive", "majority_accuracy")
"""Columns of an evaluation that a list of runs shows."""
RUNNING = "running"
"""State of a run that a process is writing."""
UNFINISHED = "unfinished"
"""State of a run at a URI that has no summary yet."""
UNREADABLE = "unreadable"
"""State of a folder with a file that cannot be read; the file and the reason follow."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A run in a list.

    Attributes:
        name: path below the root of the list.
        location: folder or URI.
        algorithm: name of the algorithm.
        rounds: number of finished rounds, of ``rounds_planned``.
        test_accuracy, test_loss: metrics of the last evaluation; None where there is none.
        primary, primary_metric, primary_naive: the value and the name of the primary metric of a run's task, and its
            value for a model that ignores its inputs.
        majority_accuracy: the accuracy of the majority label, where owners have test sets of their own.
        state: why the run ended, ``running``, ``cut short``, or ``unreadable`` with the reason.
        started: when the run began; None where its folder does not say.
        changed: when its metrics were last written.
    """

    name: str
    location: str
    algorithm: str = ""
    rounds: int = 0
    rounds_planned: int = 0
    test_accuracy: float | None = None
    test_loss: float | None = None
    primary: float | None = None
    primary_metric: str | None = None
    primary_naive: float | None = None
    majority_accuracy: float | None = None
    state: str
    started: str | None = None
    changed: str | None = None

    @property
    def tested(self) -> Row:
        """The columns of the last evaluation that the run has."""
        return {key: value for key in TESTED if (value := getattr(self, key)) is not None}

    def as_json(self) -> dict[str, Any]:
        """Return the entry as plain data, for programs."""
        return asdict(self)


def listing(name: str, location: str, folder: Path) -> Listing:
    """Read the entry of a run. Nothing in its folder is imported; a damaged file is named in the state."""
    damage: list[str] = []

    def read(reader: Callable[[Path], T], otherwise: T) -> T:
        try:
            return reader(folder)
        except (OSError, ValueError) as error:
            damage.append(f"{error.path.name} is damaged: {error.reason}" if isinstance(error, Damaged) else str(error))
            return otherwise

    config = read(read_outline, None)
    none: list[Row] = []
    rows = read(read_rows, none)
    algorithm = config.algorithm.name if config else ""
    last: Row = next((row for row in reversed(rows) if "test_accuracy" in row or "test_loss" in row), {})
    state = read(lambda folder: state_of(folder, location), "")
    return Listing(
        name=name,
        location=location,
        algorithm=algorithm,
        rounds=len(rows),
        rounds_planned=config.training.rounds * TRAININGS.get(algorithm, 1) if config else 0,
        **{key: last.get(key) for key in TESTED},
        started=read(started_at, None),
        changed=_changed(folder),
        state=f"{UNREADABLE}: {damage[0]}" if damage else state,
    )


def state_of(folder: Path, location: str) -> str:
    """Return why a run ended, ``running`` where a process writes it, or ``cut short``.

    A run at a URI may be written by another machine, which nothing there tells; it is ``unfinished`` then.
    """
    if is_held(folder):
        return RUNNING
    if is_uri(location) and not read_summary(folder):
        return UNFINISHED
    return stop_of(folder)


def _changed(folder: Path) -> str | None:
    path = next((path for path in (folder / "metrics.jsonl", folder / "config.yaml") if path.exists()), None)
    if path is None:
        return None
    return datetime.fromtimestamp(path.stat().st_mtime).astimezone().isoformat(timespec="seconds")
