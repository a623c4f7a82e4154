"""``raysplit report``: write a page about runs, with its figures."""

from __future__ import annotations

from pathlib import Path

import click

from raysplit.cli.files import chosen
from raysplit.cli.options import FilePath, complete_runs, run_records
from raysplit.cli.streams import echo
from raysplit.disk import told_where, written
from raysplit.paths import expanded

_FREE = "-"
"""What ``--html`` without a file stands for."""


@click.command()
@click.argument("runs", nargs=-1, required=True, callback=run_records, shell_complete=complete_runs)
@click.option(
    "--output",
    type=FilePath(),
    help="Page to write; by default a new report.md. The figure is a .png beside it.",
)
@click.option(
    "--html",
    is_flag=False,
    flag_value=_FREE,
    metavar="[FILE]",
    help="Write one HTML page that holds its pictures; by default a new report.html.",
)
@click.option(
    "--target",
    type=click.FloatRange(0, min_open=True),
    metavar="TARGET",
    help="Show what it took to reach an accuracy, or a loss.",
)
def report(runs: tuple[Path, ...], output: Path | None, html: str | None, target: float | None) -> None:
    """Write a page about runs, with its figures.

    RUNS are folders, names below runs/, or URIs; a run may still be unfinished. The page has the results, the settings
    that differ, the metrics of every run by round, the bytes by kind of link, the versions and the machine. It is
    Markdown, or with --html a page for a browser that also shows who waited, who holds what, and what was predicted.

    \b
    Examples:
      raysplit report fedavg runs/splitfed
      raysplit report fedavg runs/splitfed --html
      raysplit report s3://bucket/runs/digits --output digits.md
    """
    if html is not None:
        _write_html(runs, html, output, target)
        return
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


def _write_html(runs: tuple[Path, ...], file: str, output: Path | None, target: float | None) -> None:
    if output is not None:
        raise click.UsageError("--output is the Markdown page and --html the page for a browser; give one of them")
    given = None if file == _FREE else Path(expanded(file))
    if given is not None and given.suffix not in (".html", ".htm"):
        raise click.BadParameter(
            f"{given} does not end in .html; give --html behind the runs, or a file that does", param_hint="--html"
        )
    from raysplit.runs.html.page import html_page
    from raysplit.runs.report import check_target, readable_runs

    reports, left_out = readable_runs(runs)
    check_target([run.metric.name for run in reports], target)
    path, note = chosen(given, Path("report.html"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with written(path) as aside:
        aside.write_text(html_page(reports, target=target, left_out=left_out), encoding="utf-8")
    echo(f"report: {path}{note}")
