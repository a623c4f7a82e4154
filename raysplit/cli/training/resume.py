"""``raysplit resume``: continue a run that was interrupted."""

from __future__ import annotations

import click

from raysplit.cli.options import run_location
from raysplit.cli.stopping import going_on
from raysplit.cli.training.train import kept_text, shown


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
    location = run_location(run)
    with shown(quiet=quiet, as_json=as_json) as show:
        from raysplit.api import resume as go_on

        with going_on(lambda: kept_text(location)):
            result = go_on(location, callbacks=show.callbacks)
    show.result(result, location)
