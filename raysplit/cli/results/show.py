"""``raysplit show``: show the result and the checkpoints of a run."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from raysplit.cli.options import NamedRun, whole_run
from raysplit.cli.results.runs import config_of, existing, result_of, rows_of, state_of


@click.command()
@click.argument("run", callback=whole_run)
def show(run: NamedRun) -> None:
    """Show the result and the checkpoints of RUN.

    RUN is a folder, a name below runs/, or a URI.

    \b
    Example:
      raysplit show digits
    """
    from raysplit.runs.folder import entries

    folder = existing(run)
    config, rows = config_of(folder), rows_of(folder)
    console = Console()
    console.print(f"[bold]{run.location}[/bold]: {config['algorithm']['name']}, {state_of(run)}")
    console.print(f"{len(rows)} of {config['training']['rounds']} rounds, {result_of(rows)}")
    for row in rows[-3:]:
        console.print(f"  round {row['round']}: loss {row['train_loss']:.4f}, {result_of([row])}")
    for line in _kept(folder):
        console.print(line)
    files = [path.name for path in entries(folder) if path.is_file()]
    console.print(f"files: {', '.join(files)}")


def _kept(folder: Path) -> list[str]:
    from raysplit.training.recovery.checkpoint import CheckpointRefused, Checkpoints, location_of

    elsewhere = config_of(folder).get("reliability", {}).get("checkpoint_location")
    place = Checkpoints(location_of(elsewhere, folder))
    lines = []
    for name in place.names():
        try:
            lines.append(f"checkpoint {name}: whole, after round {place.require_whole(name)}")
        except CheckpointRefused as refused:
            lines.append(f"checkpoint {refused}")
    return lines or [f"no checkpoints in {place.location}"]
