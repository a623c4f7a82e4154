"""``raysplit list``: list the runs and how far each has come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml
from rich.console import Console
from rich.table import Table

from raysplit.cli.options import NamedRun, runs_in
from raysplit.cli.progress import accuracy_text, loss_text

if TYPE_CHECKING:
    from raysplit.runs.folder import Row


@click.command("list")
@click.option("--root", default="runs", show_default=True, metavar="FOLDER", help="Folder or URI of the runs.")
def list_runs(root: str) -> None:
    """List the runs and how far each has come.

    \b
    Examples:
      raysplit list --root runs
      raysplit list --root s3://bucket/runs
    """
    runs = runs_in(root)
    if not runs:
        raise ValueError(f"there are no runs in {root}; start one with raysplit train, or set --root to another folder")
    table = Table("run", "algorithm", "rounds", "result", "state")
    for run in runs:
        config, rows = config_of(run.folder), rows_of(run.folder)
        rounds = f"{len(rows)} of {config['training']['rounds']}"
        table.add_row(run.folder.name, config["algorithm"]["name"], rounds, result_of(rows), state_of(run))
    Console().print(table)


def state_of(run: NamedRun) -> str:
    """Return why the run ended, or how to resume it."""
    from raysplit.runs.folder import CUT_SHORT

    try:
        stopped: str = json.loads((run.folder / "summary.json").read_text(encoding="utf-8"))["stopped"]
    except OSError:
        stopped = CUT_SHORT
    return f"{CUT_SHORT}; raysplit resume {run.location}" if stopped == CUT_SHORT else stopped


def existing(run: NamedRun) -> Path:
    """Return the folder of a run. Raises ``ValueError`` where it is not a run folder."""
    if not (run.folder / "config.yaml").exists():
        raise ValueError(f"{run.location} is not a run folder: it has no config.yaml; raysplit list shows the runs")
    return run.folder


def config_of(folder: Path) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return tree


def rows_of(folder: Path) -> list[Row]:
    from raysplit.runs.folder import read_metrics

    try:
        return read_metrics(folder)
    except ValueError:
        return []


def result_of(rows: list[Row]) -> str:
    tested = [row for row in rows if "test_accuracy" in row or "test_loss" in row]
    if not tested:
        return "not evaluated"
    last = tested[-1]
    return f"accuracy {accuracy_text(last, 4)}" if "test_accuracy" in last else f"test loss {loss_text(last, 4)}"
