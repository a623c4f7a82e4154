"""Run a sweep and write its table."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from raysplit.disk import written
from raysplit.runs.report_page import as_text, markdown_table
from raysplit.sweeps.report import Group, as_data, read_groups, table
from raysplit.sweeps.sweep import Cell, Train, run_cells


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """Result of a sweep, which `raysplit.sweep` returns; runs that differ only in their seed share a line.

    Attributes:
        folder: the folder with ``table.json``, ``table.md`` and, below ``cells``, the run folders.
        groups: the runs by combination, without the seed.
        failed: the error messages of the failed runs, by name; all other runs have finished.
        target: the test accuracy, or the loss of tasks without labels, for which the table shows steps and bytes; None
            where there is none.
    """

    folder: Path
    groups: tuple[Group, ...]
    failed: Mapping[str, str]
    target: float | None = None

    @property
    def data(self) -> list[dict[str, Any]]:
        """List with one mapping per combination, as in ``table.json``."""
        return as_data(self.groups, self.target)

    @property
    def table(self) -> pa.Table:
        """Table with the text of ``table.md``: swept values, accuracy with its deviation, and baselines."""
        columns, lines = table(self.groups, self.target)
        return pa.Table.from_pylist([dict(zip(columns, line, strict=True)) for line in lines])

    def __str__(self) -> str:
        columns, lines = table(self.groups, self.target)
        return (
            markdown_table([as_text(name) for name in columns], [[as_text(cell) for cell in line] for line in lines])
            + "\n"
        )


def run_sweep(
    grid: Sequence[Cell],
    folder: Path,
    *,
    train: Train,
    parallel: int = 1,
    target: float | None = None,
    done: Callable[[Cell, bool], None] = lambda *_: None,
) -> SweepResult:
    """Run the unfinished cells as `run_cells` does, and write ``table.json`` and ``table.md``."""
    failed = run_cells(grid, folder / "cells", train=train, parallel=parallel, done=done)
    result = SweepResult(folder=folder, groups=tuple(read_groups(grid, folder / "cells")), failed=failed, target=target)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("table.json", json.dumps(result.data, indent=2) + "\n"), ("table.md", str(result))):
        with written(folder / name, "the runs are kept: make room there, then repeat the sweep") as aside:
            aside.write_text(text, encoding="utf-8")
    return result
