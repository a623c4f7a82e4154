"""Tables of predictions on a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from raysplit.cli.streams import Console

if TYPE_CHECKING:
    from raysplit.prediction.timeline import Comparison, DeviceUse

_MAX_ROWS = 12
_UNBOUNDED = 10_000  # columns


def print_table(console: Console, table: Table) -> None:
    """Print a table with whole words: a terminal folds long ones, and a file or a pipe gets lines as long as needed."""
    for column in table.columns:
        column.overflow = "fold"
    wide = (
        console if console.is_terminal else Console(file=console.file, width=max(natural_width(table), console.width))
    )
    wide.print(table)


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
