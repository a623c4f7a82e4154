"""What a list of runs says about each: algorithm, progress, result, state and dates, read without loading weights."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from raysplit.experiment.titles import TRAININGS
from raysplit.paths import is_uri
from raysplit.plain_yaml import read
from raysplit.runs.folder import CUT_SHORT, Row, is_held, read_metrics, read_summary, started_at

RUNNING = "running"
"""State of a run that a process is writing."""
UNFINISHED = "unfinished"
"""State of a run at a URI that has no summary yet."""
UNREADABLE = "unreadable"
"""State of a folder whose files cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A run in a list.

    Attributes:
        name: path below the root of the list.
        location: folder or URI.
        algorithm: name of the algorithm.
        rounds: number of finished rounds, of ``rounds_planned``.
        test_accuracy, test_loss: metrics of the last evaluation; None where there is none.
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
    majority_accuracy: float | None = None
    state: str
    started: str | None = None
    changed: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the entry as plain data, for programs."""
        return asdict(self)


def listing(name: str, location: str, folder: Path) -> Listing:
    """Read the entry of a run. Nothing in its folder is imported or trusted."""
    try:
        config = recorded_tree(folder)
        rows = rows_of(folder)
        algorithm = str(config["algorithm"]["name"])
        last: Row = next((row for row in reversed(rows) if "test_accuracy" in row or "test_loss" in row), {})
        return Listing(
            name=name,
            location=location,
            algorithm=algorithm,
            rounds=len(rows),
            rounds_planned=int(config["training"]["rounds"]) * TRAININGS.get(algorithm, 1),
            **{key: last.get(key) for key in ("test_accuracy", "test_loss", "majority_accuracy")},
            state=state_of(folder, location),
            started=started_at(folder),
            changed=_changed(folder),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Listing(name=name, location=location, state=f"{UNREADABLE}: {type(error).__name__}: {error}")


def recorded_tree(folder: Path) -> dict[str, Any]:
    """Read ``config.yaml`` of a run as plain data."""
    tree: dict[str, Any] = read((folder / "config.yaml").read_text(encoding="utf-8"), f"{folder / 'config.yaml'}")
    return tree


def rows_of(folder: Path) -> list[Row]:
    """Read the metrics of a run; empty before its first round ends."""
    try:
        return read_metrics(folder)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return []


def state_of(folder: Path, location: str) -> str:
    """Return why a run ended, ``running`` where a process writes it, or ``cut short``.

    A run at a URI may be written by another machine, which nothing there tells; it is ``unfinished`` then.
    """
    if is_held(folder):
        return RUNNING
    stopped = read_summary(folder).get("stopped")
    return str(stopped) if stopped else UNFINISHED if is_uri(location) else CUT_SHORT


def _changed(folder: Path) -> str | None:
    path = next((path for path in (folder / "metrics.jsonl", folder / "config.yaml") if path.exists()), None)
    if path is None:
        return None
    return datetime.fromtimestamp(path.stat().st_mtime).astimezone().isoformat(timespec="seconds")
