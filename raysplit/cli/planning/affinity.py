"""`raysplit affinity`: group tasks that help each other.

Zhuang et al., "MAS", ICCV 2023, arXiv 2307.11285; overlapping groups from Fifty et al., arXiv 2109.04617; predicted
losses from Standley et al., arXiv 1905.07553.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.table import Table
from rich.text import Text

from raysplit.cli.options import NewFile, whole_run
from raysplit.cli.streams import Console, echo
from raysplit.cli.tables import print_table
from raysplit.paths import expanded, is_uri

if TYPE_CHECKING:  # help must not wait for scipy and matplotlib
    from raysplit.schedulers.energy import TaskCost
    from raysplit.schedulers.grouping.known import PartAffinity
    from raysplit.schedulers.grouping.scores import Grouping, Groups, TaskMatrix

MODES = ("exact", "at-most", "overlap", "hoa")


def _hours(context: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> TaskCost | None:
    """Click callback: fit the cost of a run from values written as ``TASKS:HOURS``."""
    if not value:
        return None
    from raysplit.schedulers.energy import fit_task_cost

    try:
        return fit_task_cost({int(tasks): float(hours) for tasks, hours in (run.split(":") for run in value)})
    except ValueError as wrong:
        raise click.BadParameter(
            f"{' '.join(value)}: {wrong}; give two runs, for example --hours 1:3.37 --hours 5:7.28"
        ) from wrong


def _matrix_or_run(context: click.Context, parameter: click.Parameter, value: str) -> Path:
    """Click callback: a file as it is, and the folder of a run otherwise."""
    path = Path(value if is_uri(value) else expanded(value))
    return path if path.is_file() else whole_run(context, parameter, value).folder


@click.command(name="affinity")
@click.argument("source", callback=_matrix_or_run)
@click.option("--groups", "num_groups", type=int, metavar="N", help="Number of groups; by default all numbers.")
@click.option("--mode", type=click.Choice(MODES), default="exact", show_default=True, help="Search for the groups.")
@click.option(
    "--top", default=5, show_default=True, metavar="N", help="With --groups, --mode exact: partitions to list."
)
@click.option(
    "--hours",
    "cost",
    multiple=True,
    callback=_hours,
    metavar="TASKS:HOURS",
    help="Hours of a run with this many tasks; give two.",
)
@click.option(
    "--merged-share",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    metavar="SHARE",
    help="With --hours: rounds before the split of the merged task.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON only; needs --groups.")
@click.option("--picture", type=NewFile(), help="Heat map to write (.png, .svg).")
def affinity(
    source: Path,
    num_groups: int | None,
    mode: str,
    top: int,
    cost: TaskCost | None,
    merged_share: float,
    as_json: bool,
    picture: Path | None,
) -> None:
    """Group tasks that help each other.

    SOURCE is a run that measured affinities (a folder, a name below runs/, or a URI), or a CSV matrix whose header
    names the tasks. Its rows are the sources and its columns the recipients of affinity. For --mode hoa, rows are
    tasks, columns are their partners, and the diagonal has the loss of each task alone. Two --hours, such as
    --hours 1:3.37 --hours 5:7.28, give the cost of every way to train the tasks.

    \b
    Example:
      raysplit affinity runs/mas --groups 2 --picture affinity.png
    """
    if as_json and num_groups is None:
        raise click.UsageError("--json prints one grouping; give the number of groups with --groups")
    from raysplit.schedulers.grouping.known import PartAffinity
    from raysplit.schedulers.grouping.scores import Affinity, every_partition
    from raysplit.schedulers.grouping.search import MAX_ENUMERATED_TASKS

    matrix = _read(source, mode)
    if isinstance(matrix, PartAffinity):
        _show_part(matrix, picture, wants_groups=num_groups is not None or cost is not None)
        return
    search = _search(matrix, mode)
    wanted = range(1, len(matrix.tasks) + 1) if num_groups is None else [num_groups]
    found = {number: search(number) for number in wanted}
    if picture is not None:
        from raysplit.cli.pictures.affinity import draw_matrix

        draw_matrix(matrix, found[num_groups].groups if num_groups else (matrix.tasks,), picture)
    if as_json:
        chosen = next(iter(found.values()))
        hours = {"hours": hours_by_method(cost, chosen.groups, matrix.tasks, merged_share)} if cost else {}
        echo(json.dumps({"groups": chosen.groups, "score": chosen.score} | hours))
        return
    console = Console()
    print_table(console, _matrix_table(matrix))
    print_table(console, _groupings_table(found, mode))
    if num_groups is not None and mode == "exact" and len(matrix.tasks) <= MAX_ENUMERATED_TASKS:
        assert isinstance(matrix, Affinity)
        print_table(console, _ranking_table(every_partition(matrix, num_groups), top))
    if cost is not None:
        print_table(console, _hours_table(cost, found, matrix.tasks, merged_share))
    if picture is not None:
        console.print(f"heat map written to {picture}", soft_wrap=True)


def hours_by_method(cost: TaskCost, groups: Groups, tasks: tuple[str, ...], merged_share: float) -> Mapping[str, float]:
    """Return the hours of each way to train the tasks: alone, all in one model, and with methods that find groups."""
    num_tasks, sizes = len(tasks), [len(group) for group in groups]
    return {
        "one by one": cost.one_by_one_hours(num_tasks),
        "all in one": cost.all_in_one_hours(num_tasks),
        "mas": cost.mas_hours(num_tasks, len(groups), merged_share=merged_share),
        "tag": cost.tag_hours(num_tasks, sizes),
        "hoa": cost.hoa_hours(num_tasks, sizes),
    }


def _hours_table(cost: TaskCost, found: dict[int, Grouping], tasks: tuple[str, ...], merged_share: float) -> Table:
    columns = {
        number: hours_by_method(cost, grouping.groups, tasks, merged_share) for number, grouping in found.items()
    }
    table = Table(title="hours by number of groups, without measuring affinities")
    table.add_column("--groups", justify="right")
    for method in next(iter(columns.values())):
        table.add_column(method, justify="right")
    for number, hours in columns.items():
        table.add_row(str(number), *(f"{value:.2f}" for value in hours.values()))
    return table


def _read(source: Path, mode: str) -> TaskMatrix:
    from raysplit.schedulers.grouping.files import read_affinity, read_history, read_pair_losses
    from raysplit.schedulers.grouping.known import mean_known

    if source.is_dir():
        if mode == "hoa":
            raise click.UsageError(f"--mode hoa needs a CSV of pair losses, and {source} is the folder of a run")
        history = read_history(source)
        return mean_known(history, history[0].tasks)
    return read_pair_losses(source) if mode == "hoa" else read_affinity(source)


def _show_part(matrix: PartAffinity, picture: Path | None, *, wants_groups: bool) -> None:
    """Show affinities of which some are not known, by which no groups can be scored."""
    from raysplit.schedulers.grouping.known import pairs_shown, unknown_pairs

    why = f"No owner has measured {pairs_shown(unknown_pairs(matrix))}, so groups cannot be scored"
    if wants_groups:
        raise click.UsageError(f"{why[0].lower()}{why[1:]}; leave out --groups and --hours to see the others")
    if picture is not None:
        from raysplit.cli.pictures.affinity import draw_matrix

        draw_matrix(matrix, (matrix.tasks,), picture)
    console = Console()
    print_table(console, _matrix_table(matrix))
    console.print(f"{why}: an owner measures the tasks that it has.")
    if picture is not None:
        console.print(f"heat map written to {picture}", soft_wrap=True)


def _search(matrix: TaskMatrix, mode: str) -> Callable[[int], Grouping]:
    from raysplit.schedulers.grouping.scores import Affinity, PairLosses, hoa
    from raysplit.schedulers.grouping.when import SEARCHES

    if isinstance(matrix, PairLosses):
        return lambda number: hoa(matrix, number)
    assert isinstance(matrix, Affinity)
    by_affinity = next(search for name, search in SEARCHES.items() if name == mode)
    return lambda number: by_affinity(matrix, number)


def _matrix_table(matrix: TaskMatrix) -> Table:
    from raysplit.schedulers.grouping.scores import PairLosses

    affinities = not isinstance(matrix, PairLosses)
    table = Table(title="affinity of source (row) for recipient" if affinities else "loss of task (row) with partner")
    table.add_column("")
    for task in matrix.tasks:
        table.add_column(Text(task), justify="right")
    for task, row in zip(matrix.tasks, matrix.values, strict=True):
        cells = [
            Text("–" if isnan(value) else f"{value:.6f}", style="dim" if affinities and other == task else "")
            for other, value in zip(matrix.tasks, row, strict=True)
        ]
        table.add_row(Text(task), *cells)
    return table


def _groupings_table(found: dict[int, Grouping], mode: str) -> Table:
    table = Table(title=f"best groups, --mode {mode}")
    table.add_column("--groups", justify="right")
    table.add_column("predicted total loss" if mode == "hoa" else "mean gain", justify="right")
    table.add_column("groups")
    for number, grouping in found.items():
        table.add_row(str(number), f"{grouping.score:.6f}", _text(grouping.groups))
    return table


def _ranking_table(ranking: tuple[Grouping, ...], top: int) -> Table:
    table = Table(title=f"best {min(top, len(ranking))} of {len(ranking)} partitions")
    table.add_column("mean gain", justify="right")
    table.add_column("groups")
    for grouping in ranking[:top]:
        table.add_row(f"{grouping.score:.6f}", _text(grouping.groups))
    return table


def _text(groups: Groups) -> Text:
    return Text("  ".join("{" + ", ".join(group) + "}" for group in groups))
