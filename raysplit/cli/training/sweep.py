"""``raysplit sweep``: run a grid of settings and write one table and one figure."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich import box
from rich.table import Table

from raysplit.cli.figures import tested_texts
from raysplit.cli.options import FilePath, RunName
from raysplit.cli.progress import IMPORTING
from raysplit.cli.stopping import going_on
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_table
from raysplit.cli.waiting import Waiting

if TYPE_CHECKING:
    from raysplit.config.run import RunConfig
    from raysplit.sweeps.sweep import Axis, Cell


@click.command()
@click.argument("config", required=False, type=FilePath())
@click.option("--over", required=True, multiple=True, metavar="KEY=A,B,C", help="Values of one setting; repeatable.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one setting for all runs.")
@click.option("--name", type=RunName(), metavar="NAME", help="Name of the sweep; its folder is runs/NAME.")
@click.option(
    "--parallel",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Runs at a time, as Ray tasks.",
)
@click.option(
    "--target",
    type=click.FloatRange(0, min_open=True),
    metavar="TARGET",
    help="Show what it took to reach an accuracy, or a loss.",
)
@click.option("--seeds", type=click.IntRange(1), metavar="N", help="Number of seeds, from 0 on.")
@click.option("--follow", multiple=True, metavar="KEY", help="Setting that takes the seed, such as data.seed.")
@click.option("--choose", metavar="METRIC", help="Choose rates and rounds for each seed, by validation_loss.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON only.")
def sweep(
    config: Path | None,
    over: tuple[str, ...],
    overrides: tuple[str, ...],
    name: str | None,
    parallel: int,
    target: float | None,
    seeds: int | None,
    follow: tuple[str, ...],
    choose: str | None,
    as_json: bool,
) -> None:
    """Run a grid of settings and write one table and one figure.

    Every combination of the values of --over is trained on top of CONFIG, a YAML file. Finished runs are kept: the
    same command continues an interrupted sweep, and further values add runs. Runs that differ only in `seed` share a
    line of the table, with mean and standard deviation.

    \b
    Examples:
      raysplit sweep examples/mtsl_mnist.yaml --over partition.alpha=0,0.1,0.3,1 \\
          --over algorithm.name=mtsl,fedavg,minibatch_sfl,local --over seed=0,1,2
      raysplit sweep my.yaml --over training.optimizer.lr=0.03,0.1,0.3 --target 0.9 --parallel 2
      raysplit sweep my.yaml --over algorithm.name=fedavg,minibatch_sfl --over training.optimizer.lr=0.01,0.1 \\
          --set data.validation=0.1 --seeds 5 --choose validation_loss
    """
    console = Console(stderr=True)
    if not as_json:
        echo(f"start: {IMPORTING}", err=True)
    from raysplit.api import train_cell
    from raysplit.cli.pictures.sweep import draw_sweep
    from raysplit.config.overrides import read_tree
    from raysplit.runs.report import check_target
    from raysplit.sweeps.choice import checked_choice, choice_data
    from raysplit.sweeps.run import run_sweep
    from raysplit.sweeps.sweep import cells, local_folder, parse_axis, with_seeds

    axes = with_seeds([parse_axis(text) for text in over], seeds)
    tree = read_tree(config, overrides)
    grid = cells(tree, axes, follow)
    among = None if choose is None else checked_choice(choose, grid, axes)
    check_target([_metric_of(cell.config) for cell in grid], target)
    folder = local_folder(grid[0].config.output.root) / (name or f"sweep-{config.stem if config else 'defaults'}")
    way = f"kept; go on with: {shlex.join(['raysplit', *sys.argv[1:]])}"
    with going_on(lambda: way), Waiting(console, "training", f"of {len(grid)} runs done") as waiting:
        progress = _Progress(console, waiting, len(grid), folder)
        found = run_sweep(grid, folder, train=train_cell, parallel=parallel, target=target, choose=among, done=progress)
    groups, failed = found.groups, found.failed
    picture = folder / "figure.png"
    if any(group.runs for group in groups):
        draw_sweep(groups, picture, title=heading(axes, tree), target=target)
    if as_json:
        about = {"folder": str(folder), "figure": str(picture), "failed": failed, "table": found.data}
        chosen = {} if among is None else {"choice": choice_data(found.methods, found.differences)}
        echo(json.dumps(about | chosen))
    else:
        for columns, lines in found.tables:
            print_lines(Console(), columns, lines)
        echo(f"table: {folder / 'table.md'}\nfigure: {picture}")
    if failed:
        first, reason = next(iter(failed.items()))
        raise RuntimeError(
            f"{len(failed)} of {len(grid)} runs failed and the others are kept; the first failure, {first}: {reason}"
        )


_RESULTS = ("worst owner", "by owner", "tested on", "difference")
"""Columns behind the first result, from which on columns are numbers."""


class _Progress:
    """Callback that prints a line per finished run to standard error."""

    def __init__(self, console: Console, waiting: Waiting, total: int, folder: Path) -> None:
        self._console, self._waiting, self._total, self._folder = console, waiting, total, folder
        self._done = 0
        waiting(0, total)

    def __call__(self, cell: Cell, kept: bool) -> None:
        from raysplit.runs.folder import read_metrics

        self._done += 1
        row = read_metrics(self._folder / "cells" / cell.name)[-1]
        result = tested_texts(row, 3)[0].removeprefix("test ")
        was_there = " (kept)" if kept else ""
        self._waiting(self._done, self._total)
        self._console.print(f"{self._done}/{self._total}  {cell.name}  {result}{was_there}", highlight=False)


def _metric_of(config: RunConfig) -> str:
    """Return the name of the metric that a run will have, as far as its settings say it."""
    if config.task is not None:
        return config.task.figure
    if said := config.data.by_target:
        return "accuracy" if all(task.kind == "classification" for task in said.values()) else "loss"
    return "accuracy" if config.training.loss == "cross_entropy" else "loss"


def heading(axes: Sequence[Axis], tree: dict[str, object]) -> str:
    """Format a title from the data and the partition, where all runs share them, and the swept settings."""
    swept = {axis.key for axis in axes}
    shared = []
    for section in ("data", "partition"):
        content = tree.get(section)
        if isinstance(content, dict) and f"{section}.name" not in swept and "name" in content:
            shared.append(str(content["name"]))
    return " · ".join([*shared, " × ".join(axis.key for axis in axes)])


def print_lines(console: Console, columns: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    first = min((columns.index(name) - 1 for name in _RESULTS if name in columns), default=len(columns))
    for number, column in enumerate(columns):
        # Titles may wrap between words, values may not.
        width = max(len(text) for text in [*column.split(), *(line[number] for line in lines)])
        shown.add_column(column, justify="left" if number < first else "right", min_width=width)
    for line in lines:
        shown.add_row(*line)
    print_table(console, shown)
