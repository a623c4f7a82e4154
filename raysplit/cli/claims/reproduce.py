"""``raysplit reproduce``: decide the claims of the papers by runs, within a budget of time."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.table import Table

from raysplit.cli.options import FilePath
from raysplit.cli.progress import IMPORTING, clock_text
from raysplit.cli.stopping import going_on
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_table

if TYPE_CHECKING:
    from raysplit.claims.protocol import Cell, Protocol
    from raysplit.claims.records import Record
    from raysplit.claims.running import Progress
    from raysplit.claims.verdict import Verdict

LIST = "list"
ROOT = Path("runs/claims")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class _Budget(click.ParamType[float]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", value.strip())
        if not found:
            self.fail(f"{value!r} is no time; give a number with s, m, h or d, such as 30m or 2h", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


@click.command()
@click.argument("name", metavar="PAPER|list")
@click.option(
    "--budget", type=_Budget(), default="1h", show_default=True, metavar="TIME", help="Time for runs, such as 30m, 2h."
)
@click.option(
    "--data", "root", type=FilePath(file_okay=False, dir_okay=True), help="Folder of torchvision's data sets."
)
@click.option(
    "--out", type=FilePath(file_okay=False, dir_okay=True), default=ROOT, help="Folder of records and tables."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting: runs of a stand-in.")
@click.option("--report", type=FilePath(), help="Page to write, one self-contained HTML file.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts as JSON only.")
def reproduce(
    name: str,
    budget: float,
    root: Path | None,
    out: Path,
    overrides: tuple[str, ...],
    report: Path | None,
    as_json: bool,
) -> None:
    """Decide the claims of a paper by runs, within a budget of time.

    PAPER is one of the names that `raysplit reproduce list` shows. Its runs are fixed in a protocol, most telling
    first. Finished runs are kept as one line each: the same command goes on where it stopped, and `--budget 0s` only
    prints. The verdict of a claim follows a rule that was fixed with the protocol.

    \b
    Examples:
      raysplit reproduce list
      raysplit reproduce minibatch-sfl --budget 2h --data data
      raysplit reproduce mas --budget 4h --report mas.html
    """
    if not as_json:
        echo(f"start: {IMPORTING}", err=True)
    from raysplit.claims.protocol import cells, load_protocol, protocol_names
    from raysplit.registry import known

    if name == LIST:
        _list(out, as_json)
        return
    known("paper", name, [*protocol_names(), LIST])
    if report is not None and report.suffix != ".html":
        raise click.BadParameter(f"{report} is to be an HTML page; end it in .html", param_hint="--report")
    protocol = load_protocol(name)
    settings = _overrides(overrides) | ({} if root is None else {"data.root": str(root)})
    grid = cells(protocol, settings)
    path = out / f"{name}.jsonl"
    with going_on(lambda: f"kept; go on with: {shlex.join(['raysplit', *sys.argv[1:]])}"):
        progress = _run(protocol, grid, path, budget, quiet=as_json)
    _show(protocol, grid, progress, path, report, as_json)


def _overrides(texts: Sequence[str]) -> dict[str, Any]:
    from raysplit.config.overrides import parsed
    from raysplit.config.texts import config_texts

    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise click.BadParameter(f"{text!r} does not have the form section.key=value", param_hint="--set")
        of_key = config_texts()
        for part in key.strip().split("."):
            of_key = of_key.below(part)
        found[key.strip()] = parsed(value, f"override {text!r}", of_key)
    return found


def _run(protocol: Protocol, grid: Sequence[Cell], path: Path, budget: float, *, quiet: bool) -> Progress:
    from raysplit.api import train_config
    from raysplit.claims.running import progress_of, run_cells
    from raysplit.config.run import RunConfig
    from raysplit.runs.folder import Row

    def train(config: RunConfig) -> Sequence[Row]:
        return train_config(config, keep_ray=True).rows

    console, began = Console(stderr=True), time.monotonic()
    before = progress_of(grid, path)
    if before.stale and not quiet:
        console.print(f"{before.stale} records of {path} were made under other settings and do not count")

    def told(record: Record, done: int, total: int) -> None:
        if not quiet:
            values = ", ".join(f"{v}" if k == "arm" else f"{k} {v}" for k, v in record.values.items())
            passed = clock_text(time.monotonic() - began)
            console.print(f"{done}/{total}  {values}  {record.failed or ''}{passed}", highlight=False, soft_wrap=True)

    return run_cells(protocol, grid, path, train=train, budget_s=budget, told=told)


def _show(
    protocol: Protocol, grid: Sequence[Cell], progress: Progress, path: Path, report: Path | None, as_json: bool
) -> None:
    from raysplit.claims.page import markdown, page
    from raysplit.claims.verdict import as_data, verdicts
    from raysplit.cli.pictures.claims import draw_claims
    from raysplit.disk import written

    found = verdicts(protocol, progress.records)
    table, picture = path.with_suffix(".md"), path.with_suffix(".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    has_picture = draw_claims(protocol, found, progress.records, picture)
    with written(table) as aside:
        aside.write_text(markdown(protocol, found, len(progress.records), len(grid)), encoding="utf-8")
    if report is not None:
        text = page(protocol, found, len(progress.records), len(grid), picture if has_picture else None)
        with written(report) as aside:
            aside.write_text(text, encoding="utf-8")
    if as_json:
        counts = {"runs": len(progress.records), "of": len(grid), "records": str(path)}
        echo(json.dumps({"paper": protocol.name, **counts, "claims": as_data(found)}))
        return
    _print(found)
    if progress.waiting:
        left = clock_text(progress.left_s)
        echo(f"{len(progress.records)} of {len(grid)} runs are done; the others take about {left} of a quiet core")
    echo(f"records: {path}\ntable: {table}")
    if has_picture:
        echo(f"figure: {picture}")
    if report is not None:
        echo(f"report: {report}")


def _print(found: Sequence[Verdict]) -> None:
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("claim", "paper", "ours", "verdict"):
        shown.add_column(column, min_width=len("not decided") if column == "verdict" else None)
    for verdict in found:
        shown.add_row(verdict.claim.text, verdict.claim.paper, verdict.ours, verdict.decision)
    print_table(Console(), shown)


def _list(out: Path, as_json: bool) -> None:
    """Print every claim: what the paper says and where, what it takes, and where it stands."""
    from raysplit.claims.protocol import cells, load_protocol, protocol_names
    from raysplit.claims.running import progress_of
    from raysplit.claims.standing import standing
    from raysplit.claims.verdict import as_data, verdicts

    everything = {}
    for name in protocol_names():
        protocol = load_protocol(name)
        grid = cells(protocol)
        own = progress_of(grid, out / f"{name}.jsonl").records
        found = verdicts(protocol, own) if own else standing(protocol)
        everything[name] = as_data(found)
        if not as_json:
            _print_list(protocol, found, len(own))
    if as_json:
        echo(json.dumps(everything))


def _print_list(protocol: Protocol, found: Sequence[Verdict], runs_here: int) -> None:
    console = Console()
    whose = f"by {runs_here} runs here" if runs_here else "as measured for this version"
    console.print(f"\n{protocol.name}: {protocol.paper} ({whose})", style="bold", highlight=False, soft_wrap=True)
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in ("claim", "paper", "place", "takes", "stands"):
        shown.add_column(column)
    for verdict in found:
        claim = verdict.claim
        shown.add_row(claim.text, claim.paper, claim.place, claim.takes, verdict.decision)
    print_table(console, shown)
