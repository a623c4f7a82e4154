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
@click.option("--from-start", is_flag=True, help="Train from the first round; what is there is kept in earlier-1.")
@click.option("--trust", is_flag=True, help="Import and run the code that the configuration of RUN names.")
def resume(run: str, quiet: bool, as_json: bool, from_start: bool, trust: bool) -> None:
    """Continue a run that was interrupted.

    RUN is a folder, a name below runs/, or a URI. The run continues from its newest valid checkpoint, and ends with
    the same weights as without the interruption. It stops where rounds or checkpoints are there and none can be used.

    A configuration that somebody else has written, or that was changed, may name code and places: what it would import,
    run and write is shown first, and nothing of it happens without a yes, or --trust in scripts.

    \b
    Examples:
      raysplit resume digits
      raysplit resume runs/digits --json
      raysplit resume digits --from-start
    """
    callbacks: list[Callback] = [JsonLines()] if as_json else []
    live = progress_on(Console(stderr=True)) if not quiet and not as_json else None
    callbacks += [live] if live else []
    from raysplit.cli.trust import asking
    from raysplit.kept import resume_run

    location = run_location(run)
    try:
        result = resume_run(location, allow=asking(trust), from_start=from_start, callbacks=callbacks)
    finally:
        if live:
            live.close()
    if not as_json:
        Console().print(result_line(result, location), soft_wrap=True)
