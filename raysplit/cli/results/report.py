"""``raysplit report``: write a page about runs, with a figure."""

from __future__ import annotations

from pathlib import Path

import click

from raysplit.cli.files import chosen
from raysplit.cli.options import FilePath, run_records
from raysplit.cli.streams import echo
from raysplit.disk import told_where, written


@click.command()
@click.argument("runs", nargs=-1, required=True, callback=run_records)
@click.option(
    "--output",
    type=FilePath(),
    help="Page to write; by default a new report.md. The figure is a .png beside it.",
)
@click.option(
    "--target",
    type=click.FloatRange(0, min_open=True),
    metavar="TARGET",
    help="Show what it took to reach an accuracy, or a loss.",
)
def report(runs: tuple[Path, ...], output: Path | None, target: float | None) -> None:
    """Write a Markdown page about runs, with a figure.

    RUNS are folders, names below runs/, or URIs; a run may still be unfinished. The page has the results, the settings
    that differ, the metrics of every run by round, the bytes by kind of link, the versions and the machine.

    \b
    Examples:
      raysplit report fedavg runs/splitfed
      raysplit report s3://bucket/runs/digits --output digits.md
    """
    if output is not None and output.suffix not in (".md", ".markdown"):
        raise click.BadParameter(
            f"{output} ends in {output.suffix or 'nothing'!r} and the page is Markdown; end it in .md",
            param_hint="--output",
        )
    from raysplit.cli.pictures.compare import draw_runs
    from raysplit.runs.report import check_target, readable_runs
    from raysplit.runs.report_page import page

    reports, left_out = readable_runs(runs)
    check_target([run.metric.name for run in reports], target)
    path, note = chosen(output, Path("report.md"))
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = path.with_suffix(".png")
    has_picture = any(run.curve for run in reports)
    if has_picture:
        with told_where(picture):
            draw_runs(reports, picture, title="runs", target=target)
    with written(path) as aside:
        aside.write_text(page(reports, picture.name if has_picture else None, target, left_out), encoding="utf-8")
    echo(f"report: {path}{note}")
