"""Run a whole sweep and put what it found into one object, one table and two files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysplit.runs.report_page import markdown_table
from raysplit.sweeps.report import Group, as_data, read_groups, table
from raysplit.sweeps.sweep import Cell, Train, run_cells


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """What a sweep found; runs that differ in their seed alone are one line.

    Attributes:
        folder: holds ``table.json``, ``table.md`` and a run folder for each combination below ``cells``.
        groups: the runs by combination, without the seed.
        failed: what went wrong, by the names of the runs that failed; all others have finished.
        target: the accuracy whose cost the table tells, if any.
    """

    folder: Path
    groups: tuple[Group, ...]
    failed: Mapping[str, str]
    target: float | None = None

    @property
    def data(self) -> list[dict[str, Any]]:
        """One mapping per combination, as in ``table.json``."""
        return as_data(self.groups, self.target)

    @property
    def table(self) -> pa.Table:
        """The text of ``table.md`` as a table: the swept values, accuracy with its spread, and the controls."""
        columns, lines = table(self.groups, self.target)
        return pa.Table.from_pylist([dict(zip(columns, line, strict=True)) for line in lines])

    def __str__(self) -> str:
        return markdown_table(*table(self.groups, self.target)) + "\n"


def run_sweep(
    grid: Sequence[Cell],
    folder: Path,
    *,
    train: Train,
    parallel: int = 1,
    target: float | None = None,
    done: Callable[[Cell, bool], None] = lambda *_: None,
) -> SweepResult:
    """Run the cells that have not finished yet and write ``table.json`` and ``table.md``; see `run_cells`."""
    failed = run_cells(grid, folder / "cells", train=train, parallel=parallel, done=done)
    result = SweepResult(folder=folder, groups=tuple(read_groups(grid, folder / "cells")), failed=failed, target=target)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.json").write_text(json.dumps(result.data, indent=2) + "\n", encoding="utf-8")
    (folder / "table.md").write_text(str(result), encoding="utf-8")
    return result
