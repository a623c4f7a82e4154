"""``raysplit list``: list the runs and how far each has come."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from raysplit.cli.figures import tested_texts
from raysplit.cli.options import ROOT, NamedRun, runs_in
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import natural_width, print_table
from raysplit.paths import expanded, is_uri
from raysplit.registry import one_line

if TYPE_CHECKING:
    from raysplit.runs.folder import Row
    from raysplit.runs.listing import Listing

AFTER_DIVERGENCE = "train again under another name with a lower training.optimizer.lr, or look at the owner's data"
_COLUMNS = ("run", "date", "algorithm", "rounds", "result", "state")


@click.command("list")
@click.option("--root", default=ROOT, show_default=True, metavar="FOLDER", help="Folder or URI of the runs.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON only.")
def list_runs(root: str, as_json: bool) -> None:
    """List the runs and how far each has come.

    The runs of sweeps and demonstrations are listed too. Every command takes a name from the first column, where the
    root is runs.

    \b
    Examples:
      raysplit list
      raysplit list --root s3://bucket/runs --json
    """
    from raysplit.runs.listing import listing

    root = expanded(root)
    if not is_uri(root) and Path(root).exists() and not Path(root).is_dir():
        raise ValueError(f"--root is {root!r}, which is a file; set it to the folder that holds the runs")
    found = [listing(run.name, run.location, run.folder) for run in runs_in(root)]
    if as_json:
        echo(json.dumps([entry.as_json() for entry in found], indent=2))
        return
    if not found:
        raise ValueError(f"there are no runs in {root}; start one with raysplit train, or set --root to another folder")
    _print(Console(), found)


def _print(console: Console, found: Sequence[Listing]) -> None:
    """Print a line for each run, with whole names; where a terminal is too narrow for that, two lines for each."""
    from raysplit.runs.folder import CUT_SHORT, DIVERGED
    from raysplit.runs.listing import UNFINISHED

    rows = [_cells(entry) for entry in found]
    table = Table(*_COLUMNS, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*row)
    if console.is_terminal and natural_width(table) > console.width:
        for name, *rest in rows:
            console.print(Text(name, style="bold"), soft_wrap=True)
            console.print(Text(f"    {', '.join(text for text in rest if text)}"), soft_wrap=True)
    else:
        print_table(console, table)
    unfinished = next((entry for entry in found if entry.state in (CUT_SHORT, UNFINISHED)), None)
    if unfinished is not None:
        hint = f"\nto go on with a run that is {unfinished.state}: raysplit resume {shlex.quote(unfinished.location)}"
        console.print(Text(hint), soft_wrap=True)
    diverged = next((entry for entry in found if entry.state == DIVERGED), None)
    if diverged is not None:
        console.print(Text(f"\n{diverged.name} diverged: {AFTER_DIVERGENCE}"), soft_wrap=True)


def _cells(entry: Listing) -> tuple[str, ...]:
    when = entry.started or entry.changed
    return (
        one_line(entry.name),
        f"{datetime.fromisoformat(when):%Y-%m-%d %H:%M}" if when else "",
        one_line(entry.algorithm),
        f"{entry.rounds} of {entry.rounds_planned}" if entry.algorithm else "",
        result_text(entry) if entry.algorithm else "",
        one_line(entry.state),
    )


def result_text(entry: Listing) -> str:
    """Return the last test metric of a run."""
    if entry.test_accuracy is None and entry.test_loss is None:
        return "not evaluated"
    return result_of([entry.tested])


def existing(run: NamedRun) -> NamedRun:
    """Return the run. Raises ``ValueError`` where its folder has no configuration."""
    if not (run.folder / "config.yaml").exists():
        raise ValueError(f"{run.location} is not a run folder: it has no config.yaml; raysplit list shows the runs")
    return run


def result_of(rows: list[Row]) -> str:
    """Return the metrics of the last evaluation in the rows."""
    texts = (tested_texts(row, 4) for row in reversed(rows))
    return next(filter(None, texts), ["not evaluated"])[0]
