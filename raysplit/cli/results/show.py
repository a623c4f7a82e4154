"""``raysplit show``: show the result and the checkpoints of a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from raysplit.cli.options import NamedRun, complete_runs, whole_run
from raysplit.cli.results.runs import AFTER_DIVERGENCE, existing, result_of, result_text
from raysplit.cli.streams import echo
from raysplit.registry import one_line


@click.command()
@click.argument("run", callback=whole_run, shell_complete=complete_runs)
def show(run: NamedRun) -> None:
    """Show the result and the checkpoints of RUN.

    RUN is a folder, a name below runs/, or a URI.

    \b
    Example:
      raysplit show digits
    """
    from raysplit.runs.folder import CUT_SHORT, DIVERGED, entries
    from raysplit.runs.listing import listing
    from raysplit.runs.records.read import read_rows

    folder = existing(run).folder
    entry = listing(run.location, run.location, folder)
    ways = {CUT_SHORT: f"; raysplit resume {shlex.quote(run.location)}", DIVERGED: f"; {AFTER_DIVERGENCE}"}
    way_on = ways.get(entry.state, "")
    rows = read_rows(folder)[-3:] if entry.rounds else []
    lines = [
        f"{entry.name}: {entry.algorithm or 'unknown algorithm'}, {entry.state}{way_on}",
        f"{entry.rounds} of {entry.rounds_planned or 'unknown'} rounds, {result_text(entry)}",
        *([f"started {entry.started}"] if entry.started else []),
        *[f"  round {row['round']}: {_training(row)}, {result_of([row])}" for row in rows],
        *_kept(folder),
        f"files: {', '.join(path.name for path in entries(folder) if path.is_file())}",
    ]
    for line in lines:
        echo(one_line(line))


def _training(row: Mapping[str, Any]) -> str:
    if "train_loss" not in row:
        return "loss not told"
    told_by = row.get("train_loss_told_by")
    return f"loss {row['train_loss']:.4f}" + (f" (as told by {told_by})" if told_by else "")


def _kept(folder: Path) -> list[str]:
    from raysplit.runs.records.origin import is_own
    from raysplit.runs.records.read import read_outline
    from raysplit.training.recovery.checkpoint import CheckpointRefused, Checkpoints, location_of

    try:
        elsewhere = read_outline(folder).reliability.checkpoint_location
        if elsewhere and not is_own(folder):
            return [f"checkpoints are in {elsewhere}, which was not looked at: this user has not written {folder}"]
        place = Checkpoints(location_of(elsewhere, folder))
        names = place.names()
    except (OSError, ValueError) as error:
        return [f"checkpoints cannot be listed: {error}"]
    lines = []
    for name in names:
        try:
            lines.append(f"checkpoint {name}: whole, after round {place.require_whole(name)}")
        except (CheckpointRefused, OSError) as refused:
            lines.append(f"checkpoint {refused}")
    return lines or [f"no checkpoints in {place.location}"]
