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
from raysplit.sweeps.choice import (
    Difference,
    Method,
    choice_data,
    difference_table,
    differences,
    method_table,
    read_methods,
)
from raysplit.sweeps.report import Group, as_data, read_groups, table
from raysplit.sweeps.sweep import SEED, Cell, Train, run_cells


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """Result of a sweep, which `raysplit.sweep` returns; runs that differ only in their seed share a line.

    Attributes:
        folder: the folder with ``table.json``, ``table.md`` and, below ``cells``, the run folders.
        groups: the runs by combination, without the seed.
        failed: the error messages of the failed runs, by name; all other runs have finished.
        methods: what validation chose for every method and seed; empty without a choice.
        differences: the methods against the first one, paired by seed; empty without a choice.
        target: the test accuracy, or the loss of tasks without labels, for which the table shows steps and bytes; None
            where there is none.
    """

    folder: Path
    groups: tuple[Group, ...]
    failed: Mapping[str, str]
    target: float | None = None
    methods: tuple[Method, ...] = ()
    differences: tuple[Difference, ...] = ()

    @property
    def data(self) -> list[dict[str, Any]]:
        """List with one mapping per combination, as in ``table.json``."""
        return as_data(self.groups, self.target)

    @property
    def table(self) -> pa.Table:
        """Table with the text of ``table.md``: swept values, accuracy with its deviation, and baselines."""
        columns, lines = table(self.groups, self.target)
        return pa.Table.from_pylist([dict(zip(columns, line, strict=True)) for line in lines])

    @property
    def tables(self) -> list[tuple[list[str], list[list[str]]]]:
        """The tables as column names and lines: of all runs, and with a choice of the methods and their differences."""
        found = [table(self.groups, self.target)]
        found += [method_table(self.methods)] if self.methods else []
        return found + ([difference_table(self.differences)] if self.differences else [])

    def __str__(self) -> str:
        shown = [
            markdown_table([as_text(name) for name in columns], [[as_text(cell) for cell in line] for line in lines])
            for columns, lines in self.tables
        ]
        return "\n\n".join(shown) + "\n"


def run_sweep(
    grid: Sequence[Cell],
    folder: Path,
    *,
    train: Train,
    parallel: int = 1,
    target: float | None = None,
    choose: Sequence[str] | None = None,
    done: Callable[[Cell, bool], None] = lambda *_: None,
) -> SweepResult:
    """Run the unfinished cells as `run_cells` does, and write ``table.json`` and ``table.md``.

    Args:
        grid: the cells.
        folder: the folder of the sweep.
        train, parallel, done: as for `run_cells`.
        target: a value of the metric for which the table shows steps and bytes.
        choose: the settings that are chosen on validation samples, beside the round; None chooses nothing. With a
            choice there is ``choice.json`` too.
    """
    failed = run_cells(grid, folder / "cells", train=train, parallel=parallel, done=done)
    cells = folder / "cells"
    methods = [] if choose is None else read_methods(grid, cells, choose)
    compared = [key for key in (methods[0].values if methods else ()) if key != SEED][:1]
    found = [difference for key in compared for difference in differences(methods, key)]
    result = SweepResult(
        folder=folder,
        groups=tuple(read_groups(grid, cells)),
        failed=failed,
        target=target,
        methods=tuple(methods),
        differences=tuple(found),
    )
    folder.mkdir(parents=True, exist_ok=True)
    files = {"table.json": json.dumps(result.data, indent=2) + "\n", "table.md": str(result)}
    if choose is not None:
        files["choice.json"] = json.dumps(choice_data(methods, found), indent=2) + "\n"
    for name, text in files.items():
        with written(folder / name, "the runs are kept: make room there, then repeat the sweep") as aside:
            aside.write_text(text, encoding="utf-8")
    return result
