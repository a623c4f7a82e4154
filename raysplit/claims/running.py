"""Run what a budget of time allows of a protocol, most telling runs first, and go on where it was stopped."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import raysplit
from raysplit.claims.protocol import Cell, Protocol
from raysplit.claims.records import Record, append_record, kept_columns, read_records
from raysplit.config.run import RunConfig, check_config
from raysplit.runs.folder import Row

logger = logging.getLogger(__name__)

Train = Callable[[RunConfig], Sequence[Row]]
"""Function that trains a configuration and returns its metrics."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a protocol is.

    Attributes:
        records: the records that belong to it, in the order of its cells.
        waiting: the cells without a record.
        stale: the number of records in the file that were made under other settings.
    """

    records: tuple[Record, ...]
    waiting: tuple[Cell, ...]
    stale: int = 0

    @property
    def left_s(self) -> float:
        """Seconds that the waiting cells will take, at the pace of those that are done."""
        return sum(cell.cost_s for cell in self.waiting)


def progress_of(grid: Sequence[Cell], path: Path) -> Progress:
    """Return how far the runs of a protocol are, by its file of records."""
    records = read_records(path)
    done = {(record.key, record.digest): record for record in records}
    own = [done[cell.key, cell.digest] for cell in grid if (cell.key, cell.digest) in done]
    waiting = [cell for cell in grid if (cell.key, cell.digest) not in done]
    return Progress(records=tuple(own), waiting=tuple(waiting), stale=len(records) - len(own))


def run_cells(
    protocol: Protocol,
    grid: Sequence[Cell],
    path: Path,
    *,
    train: Train,
    budget_s: float,
    now: Callable[[], float] = time.monotonic,
    cpu: Callable[[], float] = time.process_time,
    told: Callable[[Record, int, int], None] = lambda *_: None,
) -> Progress:
    """Run waiting cells in order, as long as the next one is expected to end within the budget.

    Args:
        protocol: the protocol, for the columns that are kept.
        grid: its cells.
        path: the file of records, which gets a line after each run.
        train: the function that trains a configuration.
        budget_s: seconds from now on.
        now: the clock of the budget.
        cpu: the clock of the processor.
        told: is called with each new record, the number of records that there are, and the number of cells.
    """
    began, pace = now(), 1.0
    progress = progress_of(grid, path)
    done = len(progress.records)
    for cell in progress.waiting:
        if now() - began + pace * cell.cost_s > budget_s:
            break
        started = now()
        record = _run(protocol, cell, train, cpu)
        append_record(path, record)
        pace = max(0.01, (now() - started) / cell.cost_s)
        done += 1
        told(record, done, len(grid))
    return progress_of(grid, path)


def _run(protocol: Protocol, cell: Cell, train: Train, cpu: Callable[[], float]) -> Record:
    config = check_config(dict(cell.tree))
    rows: Sequence[Row] = ()
    started, failed = cpu(), None
    try:
        rows = train(config)
    except ArithmeticError as error:  # a loss that is not finite is a result
        failed = str(error)
        logger.warning("%s: %s", cell, failed)
    return Record(
        values=cell.values,
        digest=cell.digest,
        columns=kept_columns(rows, protocol.keep),
        cpu_s=round(cpu() - started, 1),
        versions=_versions(),
        failed=failed,
    )


def _versions() -> Mapping[str, str]:
    return {"raysplit": raysplit.__version__, "torch": torch.__version__}
