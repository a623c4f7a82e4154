"""``raysplit resume``: continue a run that was interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console

from raysplit.cli.options import run_location
from raysplit.cli.progress import JsonLines, progress_on
from raysplit.cli.training.train import result_line

if TYPE_CHECKING:
    from raysplit.runs.callback import Callback


@click.command()
@click.argument("run")
@click.option("--quiet", is_flag=True, help="Print the result only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per round and a summary only.")
def resume(run: str, quiet: bool, as_json: bool) -> None:
    """Continue a run that was interrupted.

    RUN is a folder, a name below runs/, or a URI. The run continues from its newest valid checkpoint, and ends with
    the same weights as without the interruption.

    \b
    Examples:
      raysplit resume digits
      raysplit resume runs/digits --json
    """
    callbacks: list[Callback] = [JsonLines()] if as_json else []
    live = progress_on(Console(stderr=True)) if not quiet and not as_json else None
    callbacks += [live] if live else []
    from raysplit.api import resume as go_on

    location = run_location(run)
    try:
        result = go_on(location, callbacks=callbacks)
    finally:
        if live:
            live.close()
    if not as_json:
        Console().print(result_line(result, location), soft_wrap=True)
