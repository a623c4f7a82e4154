"""``raysplit report``: runs as a page to keep or to send, with a picture."""

from __future__ import annotations

from pathlib import Path

import click

from raysplit.cli.options import run_records
from raysplit.cli.pictures.compare import draw_runs
from raysplit.runs.report import read_runs
from raysplit.runs.report_page import page


@click.command()
@click.argument("runs", nargs=-1, required=True, callback=run_records)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("report.md"),
    show_default=True,
    help="The page, in Markdown; the picture has its name and the ending .png.",
)
@click.option("--target", type=click.FloatRange(0, 1, min_open=True), help="Accuracy to reach: what did it take?")
def report(runs: tuple[Path, ...], output: Path, target: float | None) -> None:
    """Write a page about RUNS, the folders or URIs of finished or interrupted runs.

    Results, settings that differ, the course of every run, bytes by kind of link, versions and machine.

    \b
    Examples:
      raysplit report runs/fedavg runs/splitfed
      raysplit report s3://bucket/runs/digits --output digits.md
    """
    reports = read_runs(runs)
    output.parent.mkdir(parents=True, exist_ok=True)
    picture = output.with_suffix(".png")
    has_picture = any(run.curve for run in reports)
    if has_picture:
        draw_runs(reports, picture, title="runs", target=target)
    output.write_text(page(reports, picture.name if has_picture else None, target), encoding="utf-8")
    click.echo(f"report: {output}")
