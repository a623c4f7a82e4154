"""Tables of predictions on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from raysplit.cli.streams import Console

if TYPE_CHECKING:
    from raysplit.prediction.timeline import Comparison, DeviceUse

_MAX_ROWS = 12
_UNBOUNDED = 10_000  # columns


def print_table(console: Console, table: Table) -> None:
    """Print a table with whole words: a terminal folds cells, and a file or a pipe gets lines as long as needed.

    On a terminal that is too narrow for the words, each row is printed as lines of its own.
    """
    if is_too_narrow(console, table):
        print_records(console, table)
        return
    for column in table.columns:
        column.overflow = "fold"
    wide = (
        console if console.is_terminal else Console(file=console.file, width=max(natural_width(table), console.width))
    )
    wide.print(table)


def is_too_narrow(console: Console, table: Table) -> bool:
    """Whether a table has words that have to be cut on this terminal."""
    return console.is_terminal and Console(width=_UNBOUNDED).measure(table).minimum > console.width


def print_records(console: Console, table: Table) -> None:
    """Print each row of a table as lines: its first cell, and below it the others, all with their headings."""
    if table.title:
        console.print(table.title, style="bold", highlight=False)
    headings = [_one_line(column.header) for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        told = [(heading, _one_line(cell)) for heading, cell in zip(headings, row, strict=True) if str(cell)]
        for i, (heading, cell) in enumerate(told):
            line = Text(f"{heading}: {cell}" if heading else cell, style="" if i else "bold")
            console.print(Padding(line, (0, 0, 0, 2 if i else 0), expand=False))


def _one_line(cell: object) -> str:
    return ", ".join(str(cell).split("\n"))


def print_figure(console: Console, path: Path | None) -> None:
    """Say where a figure was drawn, where one was asked for."""
    if path is not None:
        console.print(f"figure: {path}", soft_wrap=True, markup=False, highlight=False)


def natural_width(table: Table) -> int:
    """Return the columns that a table takes where nothing is folded."""
    return Console(width=_UNBOUNDED).measure(table).maximum


def comparison_table(comparison: Comparison) -> Table:
    """Build the table of predicted against measured times of a round, the nodes and the first owners."""
    table = Table(title="predicted against measured, in described seconds")
    table.add_column("")
    for column in ("predicted", "measured", "error"):
        table.add_column(column, justify="right")
    predicted, measured = comparison.round_s
    table.add_row("a round", f"{predicted:.3f}", f"{measured:.3f}", f"{comparison.error:+.2%}", style="bold")
    if comparison.lateness:
        late = sum(lateness.num_late for lateness in comparison.lateness.values())
        table.add_row("late steps", "0", str(late), "", style="" if late == 0 else "red")
    for party, (before, after) in list(comparison.busy_s.items())[:_MAX_ROWS]:
        error = f"{(before - after) / after:+.2%}" if after else ""
        table.add_row(f"{party} at work", f"{before:.3f}", f"{after:.3f}", error)
    return table


def use_table(uses: list[DeviceUse], title: str) -> Table:
    """Build the table of busy and idle times per device; with many devices, of the first ones."""
    table = Table(title=title)
    table.add_column("device")
    for column in ("at work", "busy s", "idle s", "longest bubble s", "tasks"):
        table.add_column(column, justify="right")
    for use in uses[:_MAX_ROWS]:
        table.add_row(
            use.device,
            f"{use.utilisation:.1%}",
            f"{use.busy_s:.2f}",
            f"{use.idle_s:.2f}",
            f"{use.longest_idle_s:.2f}",
            str(use.num_tasks),
        )
    if len(uses) > _MAX_ROWS:
        table.add_row(f"... and {len(uses) - _MAX_ROWS} more")
    return table
