"""``raysplit show``: what a run came to, and what it can be resumed from."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from raysplit.cli.options import NamedRun, whole_run
from raysplit.cli.results.runs import config_of, existing, result_of, rows_of, state_of
from raysplit.runs.folder import entries


@click.command()
@click.argument("run", callback=whole_run)
def show(run: NamedRun) -> None:
    """Show what RUN (its folder or URI, or its name below runs/) came to, and what it can be resumed from.

    \b
    Example:
      raysplit show digits
    """
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
    """The checkpoints, each read and found whole or not."""
    from raysplit.config.run import load_config
    from raysplit.training.recovery.checkpoint import CheckpointRefused
    from raysplit.training.session import checkpoints_of

    place = checkpoints_of(load_config(folder / "config.yaml").reliability, folder)
    lines = []
    for name in place.names():
        try:
            lines.append(f"checkpoint {name}: whole, after round {place.load(name).rounds}")
        except CheckpointRefused as refused:
            lines.append(f"checkpoint {refused}")
    return lines or [f"no checkpoints in {place.location}"]
