"""A look at a run that another process writes: how far it is, who takes part, who is missing, whether it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from raysplit.experiment.titles import TRAININGS, title_of
from raysplit.runs.folder import is_held
from raysplit.runs.records.damaged import Damaged
from raysplit.runs.records.read import CUT_SHORT, Row, read_outline, read_rows, stop_of

State = Literal["waiting", "running", "stopped", "ended"]
"""Whether a run has not begun, is written by a process, is written by nobody though it has not ended, or has ended."""
_SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class View:
    """What a run folder says at a moment.

    Attributes:
        folder: the run folder.
        state: whether the run goes on.
        title: the algorithm; empty before the run has begun.
        rounds: the number of finished rounds, of ``rounds_planned``.
        stopped: why the run ended; ``cut short`` until then.
        row: the metrics of the last round, with the last evaluation; empty before the first.
        last_rows: the metrics of the last rounds.
        members: owners that a round of this run has.
        missing: owners that have left and not come back.
        came: owners that came in the last round.
        left_s: seconds that the rounds to come will take at the pace of the last ones.
        quiet_s: seconds since the last round ended.
    """

    folder: str
    state: State
    title: str = ""
    rounds: int = 0
    rounds_planned: int = 0
    stopped: str = CUT_SHORT
    row: Row
    last_rows: tuple[Row, ...] = ()
    members: int = 0
    missing: tuple[str, ...] = ()
    came: tuple[str, ...] = ()
    left_s: float | None = None
    quiet_s: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the view as plain data, for programs."""
        return asdict(self)


def look(folder: Path, now_s: Callable[[], float] = time.time) -> View:
    """Return what a run folder says now; a folder that is not there yet is a run that has not begun.

    Raises `Damaged` for a file that cannot be read.
    """
    held = folder.is_dir() and is_held(folder)
    if not (folder / "config.yaml").exists():
        return View(folder=str(folder), state="running" if held else "waiting", row={})
    try:
        config, rows, stopped = read_outline(folder), read_rows(folder), stop_of(folder)
    except Damaged:
        if held:  # a file that is being replaced
            return View(folder=str(folder), state="running", row={})
        raise
    has_ended = stopped != CUT_SHORT and not held
    state: State = "running" if held else "ended" if has_ended else "stopped" if rows else "waiting"
    planned = config.training.rounds * TRAININGS.get(config.algorithm.name, 1)
    cohort = getattr(config.training, "cohort_size", None)
    last: Row = dict(rows[-1]) if rows else {}
    tested = next((row for row in reversed(rows) if "test_loss" in row or "test_accuracy" in row), {})
    return View(
        folder=str(folder),
        state=state,
        title=title_of(config.algorithm.name),
        rounds=len(rows),
        rounds_planned=len(rows) if has_ended else planned,
        stopped=stopped,
        row={**{key: value for key, value in tested.items() if key not in last}, **last},
        last_rows=tuple(rows[-_SHOWN:]),
        members=cohort if isinstance(cohort, int) else config.partition.num_owners,
        missing=_missing(rows),
        came=_names(last.get("came")),
        left_s=_left_s(rows, planned) if state == "running" else None,
        quiet_s=_quiet_s(folder / "metrics.jsonl", now_s()),
    )


def _missing(rows: list[Row]) -> tuple[str, ...]:
    """Return who has left and not come back, in the order in which they left."""
    away: dict[str, None] = {}
    for row in rows:
        away |= dict.fromkeys(_names(row.get("left")))
        for name in _names(row.get("came")):
            away.pop(name, None)
    return tuple(away)


def _names(found: object) -> tuple[str, ...]:
    return tuple(str(name) for name in found) if isinstance(found, list) else ()


def _left_s(rows: list[Row], planned: int) -> float | None:
    recent = [float(row["seconds"]) for row in rows[-_SHOWN:]]
    return sum(recent) / len(recent) * max(0, planned - len(rows)) if recent else None


def _quiet_s(path: Path, now_s: float) -> float | None:
    try:
        return max(0.0, now_s - path.stat().st_mtime)
    except FileNotFoundError:
        return None
