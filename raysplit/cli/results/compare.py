"""``raysplit compare``: compare runs in a table and a figure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table

from raysplit.cli.files import chosen
from raysplit.cli.options import FilePath, complete_runs, run_records
from raysplit.cli.progress import human_bytes
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_table
from raysplit.registry import clipped, one_line

if TYPE_CHECKING:
    from raysplit.runs.metric import Metric
    from raysplit.runs.report import RunReport

_NOTHING = "–"


@click.command()
@click.argument("runs", nargs=-1, required=True, callback=run_records, shell_complete=complete_runs)
@click.option(
    "--target",
    type=click.FloatRange(0, min_open=True),
    metavar="TARGET",
    help="Show what it took to reach an accuracy, or a loss.",
)
@click.option(
    "--figure",
    type=FilePath(),
    help="Figure to write; by default a new comparison.png beside the first run.",
)
@click.option("--json", "json_wanted", is_flag=True, help="Print JSON only.")
def compare(runs: tuple[Path, ...], target: float | None, figure: Path | None, json_wanted: bool) -> None:
    """Compare runs in a table and a figure.

    RUNS are folders, names below runs/, or URIs; a run may still be unfinished. The extension of the figure is its
    format.

    \b
    Example:
      raysplit compare fedavg runs/splitfed --target 0.9
    """
    from raysplit.cli.pictures.compare import draw_runs
    from raysplit.runs.report import as_json, check_target, readable_runs
    from raysplit.runs.storage import beside

    reports, left_out = readable_runs(runs)
    check_target([run.metric.name for run in reports], target)
    path, note = chosen(figure, beside(runs[0]) / "comparison.png")
    drawn = str(path) if any(run.curve for run in reports) else None
    if drawn is not None:
        draw_runs(reports, path, title=shared_partition(reports) or "runs", target=target)
    if json_wanted:
        reasons = {str(folder): reason for folder, reason in left_out.items()}
        content = {"runs": [as_json(run, target) for run in reports], "left_out": reasons, "figure": drawn}
        echo(json.dumps(content, indent=2))
        return
    print_runs(Console(), reports, target)
    for reason in left_out.values():
        echo(f"left out: {one_line(reason)}")
    echo(f"figure: {drawn}{note}" if drawn is not None else "no figure: no run has been evaluated yet")


def shared_partition(runs: Sequence[RunReport]) -> str | None:
    """Return the partition in words when all runs have the same one, else None."""
    partitions = {run.partition for run in runs}
    return partitions.pop() if len(partitions) == 1 else None


def print_runs(console: Console, runs: Sequence[RunReport], target: float | None = None) -> None:
    """Print the table of results, the cost of reaching the target, and the settings that differ."""
    from raysplit.runs.folder import CUT_SHORT, DIVERGED
    from raysplit.runs.report import MOST_LABEL, differing_settings

    print_table(console, results_table(runs))
    if any(run.by_owner for run in runs):
        print_table(console, owner_table(runs))
    if target is not None:
        print_table(console, target_table(runs, target))
    for run in runs:
        if run.stopped in (CUT_SHORT, DIVERGED):
            how = "was cut short" if run.stopped == CUT_SHORT else "diverged"
            console.print(f"{run.label} {how} after {run.rounds} of {run.rounds_planned} rounds")
    for key, values in differing_settings(runs).items():
        if not key.startswith("partition."):
            console.print(
                f"{one_line(key)} differs: {', '.join(clipped(one_line(value), MOST_LABEL) for value in values)}",
                highlight=False,
            )


def results_table(runs: Sequence[RunReport]) -> Table:
    """Build a table with one row per run.

    A column for the partition appears where partitions differ, and columns for losses where metrics differ.
    """
    from raysplit.runs.report import common_metric
    from raysplit.runs.report_page import result_columns

    shared = shared_partition(runs)
    table = Table(title=shared, title_style="bold", title_justify="left")
    table.add_column("algorithm")
    if shared is None:
        table.add_column("partition")
    tested = result_columns(runs)
    for name in ("rounds", *tested, "sent", "training", "samples/s"):
        table.add_column(name, justify="right")
    best = _best_run(runs, common_metric(runs))
    for index, run in enumerate(runs):
        table.add_row(
            run.label,
            *([run.partition] if shared is None else []),
            str(run.rounds) if run.rounds == run.rounds_planned else f"{run.rounds} of {run.rounds_planned}",
            *(cells[index] or _NOTHING for cells in tested.values()),
            human_bytes(run.num_bytes),
            f"{run.seconds:.1f} s",
            f"{run.samples_per_s:,.0f}",
            style="bold" if run is best else None,
        )
    return table


def owner_table(runs: Sequence[RunReport]) -> Table:
    """Build the table of what each run is tested on, and of its owners, each on its own samples."""
    from raysplit.runs.report_page import OWNER_HEAD, owner_cells

    table = Table(title="owner by owner", title_style="bold", title_justify="left")
    table.add_column("algorithm")
    for name in OWNER_HEAD:
        table.add_column(name, justify="left" if name == OWNER_HEAD[0] else "right")
    for run in runs:
        cells = owner_cells(run) or [""] * len(OWNER_HEAD)
        table.add_row(run.label, *(cell or _NOTHING for cell in cells))
    return table


def target_table(runs: Sequence[RunReport], target: float) -> Table:
    """Build the table of rounds, bytes and time that each run took to reach the target."""
    from raysplit.runs.report_page import target_text

    table = Table(title=f"to reach {target_text(runs, target)}", title_style="bold", title_justify="left")
    table.add_column("algorithm")
    for name in ("rounds", "sent", "training"):
        table.add_column(name, justify="right")
    for run in runs:
        point = run.reached(target)
        row = (str(point.round), human_bytes(point.num_bytes), f"{point.seconds:.1f} s") if point else (_NOTHING,) * 3
        table.add_row(run.label, *row)
    return table


def _best_run(runs: Sequence[RunReport], metric: Metric) -> RunReport | None:
    """Return the run with the best last value of a metric that all have."""
    sign = 1 if metric.better == "higher" else -1
    found = [
        (sign * value, -index) for index, run in enumerate(runs) if (value := run.last_of(metric.name)) is not None
    ]
    return runs[-max(found)[1]] if found else None
