"""``raysplit resume``: continue a run that was interrupted."""

from __future__ import annotations

import click

from raysplit.cli.options import complete_runs, run_location
from raysplit.cli.stopping import going_on
from raysplit.cli.training.train import kept_text, shown


@click.command()
@click.argument("run", shell_complete=complete_runs)
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
    location = run_location(run)
    with shown(quiet=quiet, as_json=as_json) as show:
        from raysplit.cli.trust import asking
        from raysplit.kept import resume_run

        with going_on(lambda: kept_text(location, anew=show.must_begin_anew)):
            result = resume_run(location, allow=asking(trust), from_start=from_start, callbacks=show.callbacks)
    show.result(result, location)
